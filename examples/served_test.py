"""Runs a server of the examples on a free port under each layout, uses it, and ends it by Ctrl-C.

    served_test.py NAME PROGRAM LOAD [sanitized]
"""

import random
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

PATIENCE = 120  # seconds; under a sanitizer, on a busy machine


def main(name, program, load, sanitized=None):
    for layout in layouts_of(program):
        print(f"{name} under {layout}", flush=True)
        server = subprocess.Popen([program, "127.0.0.1:0", "--layout", layout], stdout=subprocess.PIPE, text=True)
        try:
            address = address_of(server)
            idle = connect(address)
            use[name](address, load)
            server.send_signal(signal.SIGINT)
            check(server.wait(PATIENCE) == 0, f"{name} ended with {server.returncode}")
            check(idle.recv(1) == b"", "a connection was not closed in order")
        finally:
            server.kill()
            server.wait()
    if not sanitized:  # UndefinedBehaviorSanitizer needs descriptors, to see whether an address is readable
        lacks_descriptors(name, program)
    refuses_nonsense(program)


def layouts_of(program):
    """What it says it has."""
    done = subprocess.run([program, "--layout", "none of these"], capture_output=True, text=True, timeout=PATIENCE)
    lines = done.stderr.partition("layouts:\n")[2].splitlines()
    check(lines, f"{program} names no layouts: {done.stderr}")
    return [line.split(":")[0].strip() for line in lines]


def address_of(server):
    check(select.select([server.stdout], [], [], PATIENCE)[0], "the server does not say where it listens")
    line = server.stdout.readline()
    check(line.startswith("listening on "), f"the server says {line!r}")
    return line.split()[-1]


def use_echo(address, load):
    for arguments in (["--connections", "1"], ["--connections", "50", "--pipeline", "16", "--size", "100"],
                      ["--connections", "2", "--size", "65536"]):
        for seconds in ("0.2", "2", "20"):  # longer, if nothing was answered in time: the machine may be busy
            done = subprocess.run([load, address, "--seconds", seconds, "--patience", "30", *arguments],
                                  stdout=subprocess.PIPE, text=True, timeout=PATIENCE)
            check(done.returncode == 0, f"load {arguments} ended with {done.returncode}")
            heading, figures = done.stdout.splitlines()
            check(heading.split()[-1] == "errors" and figures.split()[-1] == "0", done.stdout)
            if float(figures.split()[3]) > 0:
                break
        else:
            check(False, f"nothing was answered: {done.stdout}")
    for arguments in ([address, "--size", "1000", "--pipeline", "1000"], ["nowhere"], ["127.0.0.1:0"]):
        done = subprocess.run([load, *arguments], capture_output=True, text=True, timeout=PATIENCE)
        check(done.returncode != 0 and done.stderr.startswith("load: "), f"load {arguments}: {done}")


def use_http_hello(address, _):
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!"
    request = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
    client = connect(address)
    for pieces in ([request], [request * 3], [request[:-3], request[-3:]], [request + b"G", request[1:]],
                   [b"\r" + request[:-1], b"\n"]):
        for piece in pieces:
            client.sendall(piece)
        count = b"".join(pieces).count(b"\r\n\r\n")
        got = b""
        while len(got) < count * len(answer):
            more = client.recv(65536)
            check(more, f"{pieces}: the connection was closed after {got!r}")
            got += more
        check(got == answer * count, f"{pieces} got {got!r}")
    client.close()


def use_kv(address, _):
    client = connect(address)

    def ask(pieces, expected):
        for piece in [pieces] if isinstance(pieces, bytes) else pieces:
            client.sendall(piece)
        receive(client, pieces, expected)

    ask(request("PING"), b"+PONG\r\n")
    ask(b"PING\r\nping hello\r\n\r\n", b"+PONG\r\n$5\r\nhello\r\n")
    ask(request("GET", "nothing"), b"$-1\r\n")
    anything = bytes(range(256)) + b"\r\n$5\r\n"
    ask(request("SET", anything, anything) + request("get", anything), b"+OK\r\n" + bulk(anything))
    ask([bytes([b]) for b in request("SET", "k", "in pieces") + request("GET", "k")], b"+OK\r\n" + bulk(b"in pieces"))
    ask(request("INCR", "n") * 3, b":1\r\n:2\r\n:3\r\n")
    ask(request("INCR", "k"), b"-ERR value is not an integer or out of range\r\n")
    ask(request("SET", "n", 2**63 - 1) + request("INCR", "n"),
        b"+OK\r\n-ERR value is not an integer or out of range\r\n")
    ask(request("MGET", "k", "none", "k"), b"*3\r\n" + bulk(b"in pieces") + b"$-1\r\n" + bulk(b"in pieces"))
    ask(request("DEL", "k", "none", "k", "n"), b":2\r\n")
    ask(request("GET"), b"-ERR wrong number of arguments for 'GET' command\r\n")
    ask(request("SET", "k", "v", "EX", "10"), b"-ERR syntax error: SET takes a key and a value, and no options here\r\n")
    ask(request("HELLO\r\n", "3"), b"-ERR unknown command 'HELLO  '\r\n")
    large = random.Random(1).randbytes(1048576)
    ask(request("SET", "large", large) + request("GET", "large"), b"+OK\r\n" + bulk(large))
    ask(request("MGET", *["large"] * 65), b"-ERR the answer is too long\r\n")
    ask(request("DEL", "large"), b":1\r\n")

    # A long pipeline over many keys keeps its order, whoever owns them.
    keys = [f"key {i}" for i in range(2000)]
    ask(b"".join(request("SET", k, k * 2) + request("GET", k) for k in keys),
        b"".join(b"+OK\r\n" + bulk((k * 2).encode()) for k in keys))
    ask(request("MGET", *keys[:1000]), b"*1000\r\n" + b"".join(bulk((k * 2).encode()) for k in keys[:1000]))
    ask(request("DEL", *keys[:1000]) + request("DEL", *keys[1000:]), b":1000\r\n:1000\r\n")

    # Connections at once, on keys that they share: each increment counts once.
    others = [connect(address) for _ in range(8)]
    for other in others:
        other.sendall(b"".join(request("INCR", f"shared {i % 4}") for i in range(400)))
    for other in others:
        counted = receive_lines(other, 400)
        check(all(line.startswith(b":") for line in counted), "an increment has failed")
        other.close()
    ask(request("MGET", *[f"shared {i}" for i in range(4)]), b"*4\r\n" + bulk(b"800") * 4)

    for nonsense, says in ((b"*1\r\n:1\r\n", b"expected '$'"), (b"*5000\r\n", b"too many arguments"),
                           (b"*1\r\n$1048577\r\n", b"argument is too large"), (b"x" * 5000, b"too big inline request")):
        with connect(address) as bad:
            bad.sendall(request("PING") + nonsense)
            receive(bad, nonsense, b"+PONG\r\n-ERR Protocol error: " + says + b"\r\n")
            check(not closed_with(bad), "a connection goes on after a protocol error")
    ask(request("PING"), b"+PONG\r\n")
    client.close()
    use_redis_tools(address)


def use_redis_tools(address):
    if not shutil.which("redis-cli") or not shutil.which("redis-benchmark"):
        print("redis-cli and redis-benchmark are not installed: not tried")
        return
    host, _, port = address.rpartition(":")
    there = ["-h", host, "-p", port]
    for words, says in ((["SET", "greeting", "hello"], "OK"), (["GET", "greeting"], '"hello"'), (["PING"], "PONG")):
        done = subprocess.run(["redis-cli", "--no-raw", *there, *words], capture_output=True, text=True, timeout=PATIENCE)
        check(done.stdout.strip() == says, f"redis-cli {words}: {done}")
    done = subprocess.run(["redis-cli", *there], input="SET a 1\nINCR a\nGET a\n", capture_output=True, text=True,
                          timeout=PATIENCE)
    check(done.stdout.split() == ["OK", "2", "2"], f"redis-cli reading commands: {done}")
    for pipeline in ("1", "16"):
        done = subprocess.run(["redis-benchmark", *there, "-t", "ping,set,get,incr,mget", "-n", "2000", "-r", "100", "-c", "10",
                               "-d", "64", "-P", pipeline, "--csv"], capture_output=True, text=True, timeout=PATIENCE)
        tests = [line.split(",")[0] for line in done.stdout.splitlines()[1:]]
        check(done.returncode == 0 and {'"SET"', '"GET"', '"INCR"'} <= set(tests), f"redis-benchmark: {done}")
        check("rror" not in done.stdout + done.stderr, f"redis-benchmark: {done}")


def request(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(map(bulk, words))


def bulk(text):
    return b"$%d\r\n%s\r\n" % (len(text), text)


def receive(client, sent, expected):
    got = b""
    while len(got) < len(expected):
        more = client.recv(1 << 20)
        check(more, f"{sent[:200]}: the connection was closed after {got[-200:]!r}")
        got += more
    check(got == expected, f"{sent[:200]} got {got[:200]!r}, not {expected[:200]!r}")


def receive_lines(client, count):
    got = b""
    while got.count(b"\r\n") < count:
        more = client.recv(65536)
        check(more, "the connection was closed")
        got += more
    return got.split(b"\r\n")[:-1]


def closed_with(client):
    try:
        return client.recv(1)
    except ConnectionResetError:  # what it had sent was not all read
        return b""


def lacks_descriptors(name, program):
    """More clients than it has descriptors for: it says so now and then, and serves them later."""
    begun = time.monotonic()
    server = subprocess.Popen([program, "127.0.0.1:0", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32)))
    try:
        address = address_of(server)
        clients = [connect(address) for _ in range(64)]
        check(select.select([server.stderr], [], [], PATIENCE)[0], "the server does not say what it lacks")
        line = server.stderr.readline()
        check(line.startswith(f"{name}: accept: "), f"the server says {line!r}")
        last = clients.pop()
        for client in clients:
            client.close()
        last.sendall(b"PING\r\n\r\n")
        check(last.recv(1) != b"", "who has waited for a descriptor is not served")
        server.send_signal(signal.SIGINT)
        _, complaints = server.communicate(timeout=PATIENCE)
        check(server.returncode == 0, f"{name} ended with {server.returncode}")
        most = 2 + (time.monotonic() - begun) / 0.1
        check(complaints.count("\n") < most, f"{name} does not wait before it tries again")
    finally:
        server.kill()
        server.wait()


def refuses_nonsense(program):
    for arguments in (["nowhere"], ["127.0.0.1:0", "many"], ["127.0.0.1:0", "0"],
                      ["--layout"], ["--layout", "none"], ["127.0.0.1:0", "1", "2"]):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=PATIENCE)
        check(done.returncode == 1 and done.stderr, f"{program} {arguments}: {done}")


def connect(address):
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), PATIENCE)


def check(condition, message):
    if not condition:
        sys.exit(f"served_test.py: {message}")


use = {"echo": use_echo, "http_hello": use_http_hello, "kv": use_kv}

if __name__ == "__main__":
    main(*sys.argv[1:])
