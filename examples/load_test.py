"""Runs load against servers that break off, answer wrongly, or not at all.

    load_test.py LOAD
"""

import socket
import subprocess
import sys
import threading

PATIENCE = 120  # seconds; under a sanitizer, on a busy machine


def main(load):
    # The first two end at their errors, long before their time.
    for serve, seconds, patience, says in ((close, 20, 30, "load: connection: "),
                                           (answer_wrongly, 20, 30, "an answer is not what was sent"),
                                           (say_nothing, 1, 5, "load: connection: not answered")):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=serve_two, args=(listener, serve), daemon=True).start()
            address = "%s:%d" % listener.getsockname()
            command = [load, address, "--connections", "2", "--seconds", str(seconds), "--patience", str(patience)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
            check(done.returncode == 1, f"{serve.__name__}: ended with {done.returncode}")
            check(done.stdout.split()[-1] == "2", f"{serve.__name__}: {done.stdout}")
            check(says in done.stderr, f"{serve.__name__}: {done.stderr}")


def serve_two(listener, serve):
    clients = [listener.accept()[0] for _ in range(2)]
    for client in clients:
        serve(client)


def close(client):
    client.recv(1)  # leaves some unread: a reset
    client.close()


def answer_wrongly(client):
    client.recv(64)
    client.sendall(b"x" * 64)


def say_nothing(client):
    while client.recv(4096):
        pass


def check(condition, message):
    if not condition:
        sys.exit(f"load_test.py: {message}")


if __name__ == "__main__":
    main(*sys.argv[1:])
