"""What loads a server. `measure` gives the fields of a line that come of the load."""

import contextlib
import json
import socket
import struct
import subprocess
import time

from .drivers import HERE, Failure

GRACE = 60  # seconds that a load may take beyond its window


def _seconds(options):
    return 1 if options.quick else 3


class EchoLoad:
    """bench-load: messages of 64 bytes, one under way a connection."""

    tool = "load"
    serves = "echo"
    figure = "cpu_ns_per_op", "CPU ns/op"

    def __init__(self, connections, rate=None):
        self.connections = connections
        self.rate = rate

    def command(self, server, program, options):
        command = [program, "--port", server.port, "--connections", self.connections,
                   "--seconds", _seconds(options)]
        for pid in server.pids:
            command += ["--server", pid]
        return command + (["--rate", self.rate] if self.rate else [])

    def measure(self, server, program, options):
        return json.loads(_output_of(self.command(server, program, options), _seconds(options) + GRACE))


class SpreadEchoLoad(EchoLoad):
    """The same, with as many connections on each shard."""

    serves = "echo_spread"

    def command(self, server, program, options):
        return super().command(server, program, options) + ["--shards", options.workers]


class PacedEchoLoad(EchoLoad):
    """The same at a given rate: two thirds of what the slower side can do at its best."""

    figure = "p99_us", "p99 us"

    def measure(self, server, program, options):
        return {**super().measure(server, program, options), "rate": self.rate}


class HttpLoad:
    """wrk. One run of 0.5 s warms up."""

    tool = "wrk"
    serves = "http_hello"
    figure = "cpu_ns_per_op", "CPU ns/op"

    def __init__(self, connections):
        self.connections = connections

    def measure(self, server, program, options):
        _check_http(server)
        command = [program, "-t1", f"-c{self.connections}", f"-d{_seconds(options)}s",
                   "-s", HERE / "runner/wrk_report.lua", f"http://127.0.0.1:{server.port}/"]
        with _silent(command) as warm_up, contextlib.suppress(subprocess.TimeoutExpired):
            warm_up.wait(0.5)
        before = server.cpu_seconds()
        text = _output_of(command, _seconds(options) + GRACE)
        cpu = server.cpu_seconds() - before
        return {"cpu_seconds": cpu, **json.loads(text.splitlines()[-1])}


class RedisLoad:
    """redis-benchmark: SET, then GET, of 100,000 keys with 64 bytes each, over 50 connections."""

    tool = "redis-benchmark"
    serves = "kv"
    figure = "cpu_ns_per_op", "CPU ns/op"
    connections = 50

    def __init__(self, pipeline, n):
        self.pipeline = pipeline
        self.n = n

    def measure(self, server, program, options):
        n = self.n // 2 if options.quick else self.n
        line = {"n": 0, "seconds": 0, "cpu_seconds": 0, "errors": 0}
        latencies = {"p50_us": 0, "p99_us": 0}
        for test in ("set", "get"):
            before = server.cpu_seconds()
            command = [program, "-h", "127.0.0.1", "-p", server.port, "-c", self.connections, "-d", 64,
                       "-r", 100_000, "-n", n, "-P", self.pipeline, "-t", test, "--csv"]
            text = _output_of(command, 5 * GRACE)
            line["cpu_seconds"] += server.cpu_seconds() - before
            # "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_...","p99_...","max_..."
            heading, figures = ([word.strip('"') for word in row.split(",")] for row in text.splitlines()[-2:])
            row = dict(zip(heading, figures))
            line["n"] += n
            line["seconds"] += n / float(row["rps"])
            for field in latencies:  # of the slower of the two
                latencies[field] = max(latencies[field], 1000 * float(row[field.replace("_us", "_latency_ms")]))
        return {**line, "requests_per_s": line["n"] / line["seconds"], **latencies}


class IdleLoad:
    """Connections that send nothing."""

    tool = None
    serves = "idle"
    figure = "bytes_per_connection", "bytes/connection"

    def __init__(self, connections):
        self.connections = connections

    def measure(self, server, program, options):
        resident, cpu = server.resident_bytes(), server.cpu_seconds()
        accepted = server.open_sockets() + self.connections
        begin = time.monotonic()
        with contextlib.ExitStack() as held:
            for _ in range(self.connections):
                held.enter_context(_connect(server))
            while server.open_sockets() < accepted:
                if time.monotonic() > begin + GRACE:
                    raise Failure(f"a server has not accepted {self.connections} connections in {GRACE} s")
                time.sleep(0.01)
            seconds = time.monotonic() - begin
            cpu = server.cpu_seconds() - cpu
            time.sleep(1)
            grown = server.resident_bytes() - resident
        return {"n": self.connections, "seconds": seconds, "cpu_seconds": cpu,
                "bytes_per_connection": grown / self.connections, "errors": 0}


def _connect(server):
    client = socket.create_connection(("127.0.0.1", server.port), GRACE)
    # A reset at the end: thousands of ports in TIME_WAIT would be in the next run's way.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return client


def _check_http(server):
    """Two requests in one write and a third in two pieces must all be answered."""
    request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with _connect(server) as client, client.makefile("rb") as answers:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(2 * request + request[:-2])
        for number in range(3):
            if number == 2:
                client.sendall(request[-2:])
            lines = iter(answers.readline, b"\r\n")
            status = next(lines)
            headers = dict(line.strip().lower().split(b": ", 1) for line in lines)
            body = answers.read(int(headers.get(b"content-length", 0)))
            if status != b"HTTP/1.1 200 OK\r\n" or b"content-type" not in headers or body != b"Hello, world!":
                raise Failure(f"an HTTP server answers request {number + 1} wrongly: {status} {headers} {body}")


@contextlib.contextmanager
def _silent(command):
    """Runs the command, without its output, at most as long as the caller's block."""
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _output_of(command, timeout):
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Failure(f"{' '.join(command)} was ended after {timeout} s") from None
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout
