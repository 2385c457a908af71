"""Runs a server of the examples on a free port, uses it, and ends it by Ctrl-C.

    served_test.py NAME PROGRAM LOAD [sanitized]
"""

import resource
import select
import signal
import socket
import subprocess
import sys
import time

PATIENCE = 60  # seconds; under a sanitizer, on a busy machine


def main(name, program, load, sanitized=None):
    server = subprocess.Popen([program, "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
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


def address_of(server):
    check(select.select([server.stdout], [], [], PATIENCE)[0], "the server does not say where it listens")
    line = server.stdout.readline()
    check(line.startswith("listening on "), f"the server says {line!r}")
    return line.split()[-1]


def use_echo(address, load):
    for arguments in (["--connections", "1"], ["--connections", "50", "--pipeline", "16", "--size", "100"],
                      ["--connections", "2", "--size", "65536"]):
        done = subprocess.run([load, address, "--seconds", "0.2", *arguments], stdout=subprocess.PIPE,
                              text=True, timeout=PATIENCE)
        check(done.returncode == 0, f"load {arguments} ended with {done.returncode}")
        heading, figures = done.stdout.splitlines()
        check(heading.split()[-1] == "errors" and figures.split()[-1] == "0", done.stdout)
        check(float(figures.split()[3]) > 0, f"nothing was answered: {done.stdout}")
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
        last.sendall(b"\r\n\r\n")
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
    for arguments in (["nowhere"], ["127.0.0.1:0", "many"], ["127.0.0.1:0", "0"]):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=PATIENCE)
        check(done.returncode == 1 and done.stderr, f"{program} {arguments}: {done}")


def connect(address):
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), PATIENCE)


def check(condition, message):
    if not condition:
        sys.exit(f"served_test.py: {message}")


use = {"echo": use_echo, "http_hello": use_http_hello}

if __name__ == "__main__":
    main(*sys.argv[1:])
