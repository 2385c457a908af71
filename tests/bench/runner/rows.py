"""A row: what each side runs for it. One line of measurement is a dict, as README.md says."""

import dataclasses
import json
import os
import re
import resource
import subprocess
import sys
import time

from . import loads, servers
from .drivers import COMPILER, HERE, OURS, ROOT, SERVERS_ONLY, Failure

RUN_TIMEOUT = 900  # seconds; no run takes a tenth of it
TPC = "thread_per_core"


@dataclasses.dataclass(frozen=True)
class Options:
    workers: int = 2
    reps: int = 5
    quick: bool = False


class Row:
    """What all rows have; a row is one `name`."""

    tool = None  # a program it needs beside the sides' own

    def may_support(self, side):
        """Whether `side` has to be built for this row."""
        return side not in SERVERS_ONLY

    def lacks(self):
        """What this machine lacks for the row, or None."""
        return None

    def prepare(self, sides, programs, options, progress):
        """Runs once, before the pairs."""


# Rows whose n is the size of a problem, not a count: a half of it is another problem.
SHAPES = ("fork_nqueens", "fork_matmul")


class DriverRow(Row):
    """A workload that drivers run; `--list` of ours says how large and how long."""

    def __init__(self, listed):
        self.name, n, seconds, times = listed.split()
        self.n = int(n)
        self.seconds = float(seconds)
        self.once = times == "once"

    def supported(self, side, programs):
        return (self.may_support(side) and side in programs
                and self.name in listed_names(programs[side]))

    def measure(self, side, programs, options):
        n, seconds = self.n, self.seconds
        if options.quick:
            if seconds:
                seconds = 1
            # What is neither repeated nor bounded by time measures memory.
            elif not self.once and self.name not in SHAPES:
                n = max(n // 2, 1)
        command = [programs[side], self.name, "--workers", options.workers, "--n", n,
                   "--reps", options.reps]
        if seconds:
            command += ["--seconds", seconds]
        return json.loads(output_of(command).splitlines()[-1])  # a runtime may log before it


class CompileRow(Row):
    """CPU seconds of the compiler on a small program, without ccache."""

    name = "compile"
    sources = {OURS: "compile.cpp", "asio": "compile_asio.cpp"}

    def supported(self, side, programs):
        return side in programs and side in self.sources

    def measure(self, side, programs, options):
        includes = [word for folder in sorted(ROOT.glob("*/include")) for word in ("-I", folder)]
        command = [COMPILER, "-std=c++20", "-O2", "-c", HERE / self.sources[side], "-o", os.devnull]
        command += includes if side == OURS else []
        begin = time.monotonic()
        compiler = subprocess.Popen([str(word) for word in command])
        _, status, usage = os.wait4(compiler.pid, 0)
        seconds = time.monotonic() - begin
        compiler.returncode = os.waitstatus_to_exitcode(status)
        if compiler.returncode != 0:
            raise Failure(f"{self.sources[side]} does not compile")
        cpu = usage.ru_utime + usage.ru_stime
        version = re.search(r"clang version (\S+)", output_of([COMPILER, "--version"])).group(1)
        return {
            "peer": side,
            "version": f"with clang {version}",
            "workload": self.name,
            "n": 1,
            "workers": 1,
            "seconds": seconds,
            "cpu_seconds": cpu,
            "ns_per_op": seconds * 1e9,
            "cpu_ns_per_op": cpu * 1e9,
            "peak_rss_kb": usage.ru_maxrss,
            "figure": cpu,
            "unit": "CPU s",
        }


class ServerRow(Row):
    """A server, and in other processes what loads it. CPU time is the server's alone."""

    def __init__(self, name, load, layout=None):
        self.name = name
        self.load = load
        self.layout = layout  # of our side
        self.tool = load.tool

    def may_support(self, side):
        return side not in SERVERS_ONLY or self.load.serves in SERVERS_ONLY[side]

    def supported(self, side, programs):
        if side in SERVERS_ONLY:
            return self.may_support(side)
        return side in programs and self.load.serves in served_names(programs[side])

    def lacks(self):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        needed = self.load.connections + 200
        if hard != resource.RLIM_INFINITY and hard < needed:
            return f"it needs {needed} file descriptors, and the hard limit (ulimit -Hn) is {hard}"
        return None

    def measure(self, side, programs, options):
        with servers.serving(side, programs[side], self.load.serves, options.workers,
                             self.layout) as server:
            line = self.load.measure(server, programs.get(self.tool), options)
            peak = server.peak_rss_kb()
        field, unit = self.load.figure
        if line["errors"]:
            print(f"\nbench: {self.name}, {side}: {line['errors']} errors", file=sys.stderr)
        line = {
            "peer": side,
            "version": server.version,
            "workload": self.name,
            "n": line["n"],
            "workers": options.workers,
            "ns_per_op": line["seconds"] * 1e9 / line["n"],
            "cpu_ns_per_op": line["cpu_seconds"] * 1e9 / line["n"],
            "peak_rss_kb": peak,
        } | line
        return {**line, "figure": line[field], "unit": unit}


class LatencyRow(ServerRow):
    """Latency at two thirds of the rate that all sides can do."""

    def __init__(self, name, connections):
        super().__init__(name, loads.PacedEchoLoad(connections))

    def prepare(self, sides, programs, options, progress):
        closed = ServerRow(self.name, loads.EchoLoad(self.load.connections))
        best = dict.fromkeys(sides, 0)
        for turn in range(3):
            for side in sides:
                progress(f"{self.name}: best rate, {turn + 1} of 3, {side}")
                best[side] = max(best[side], closed.measure(side, programs, options)["requests_per_s"])
        self.load.rate = round(min(best.values()) * 2 / 3)


def output_of(command):
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT)
    except subprocess.TimeoutExpired:
        raise Failure(f"{' '.join(command)} was ended after {RUN_TIMEOUT} s") from None
    if done.returncode != 0:
        raise Failure(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


_listed = {}


def listed(program):
    """The lines of a driver's `--list`."""
    if program not in _listed:
        _listed[program] = output_of([program, "--list"]).splitlines()
    return _listed[program]


def listed_names(program):
    return [line.split()[0] for line in listed(program)]


_served = {}


def served_names(program):
    """What a driver can serve."""
    if program not in _served:
        _served[program] = output_of([program, "serve", "--list"]).split()
    return _served[program]


def server_rows():
    yield from (ServerRow(f"echo_{c}", loads.EchoLoad(c)) for c in (1, 50, 1000))
    yield LatencyRow("echo_50_latency", 50)
    yield from (ServerRow(f"echo_{c}_tpc", loads.SpreadEchoLoad(c), TPC) for c in (1, 50, 1000))
    yield ServerRow("idle_connections", loads.IdleLoad(10_000))
    yield ServerRow("idle_connections_tpc", loads.IdleLoad(10_000), TPC)
    yield from (ServerRow(f"http_hello_{c}", loads.HttpLoad(c)) for c in (1, 50, 1000))
    yield ServerRow("redis_p1", loads.RedisLoad(1, 200_000))
    yield ServerRow("redis_p16", loads.RedisLoad(16, 2_000_000))
    yield ServerRow("redis_p1_tpc", loads.RedisLoad(1, 200_000), TPC)
    yield ServerRow("redis_p16_tpc", loads.RedisLoad(16, 2_000_000), TPC)


def all_rows(ours):
    return [*map(DriverRow, listed(ours)), *server_rows(), CompileRow()]
