"""A row: what each side runs for it. One line of measurement is a dict, as README.md says."""

import dataclasses
import json
import os
import re
import subprocess
import time

from .drivers import COMPILER, HERE, OURS, ROOT, Failure

RUN_TIMEOUT = 900  # seconds; no run takes a tenth of it


@dataclasses.dataclass(frozen=True)
class Options:
    workers: int = 2
    reps: int = 5
    quick: bool = False


class DriverRow:
    """A workload that drivers run; `--list` of ours says how large and how long."""

    def __init__(self, listed):
        self.name, n, seconds, times = listed.split()
        self.n = int(n)
        self.seconds = float(seconds)
        self.once = times == "once"

    def supported(self, side, programs):
        return side in programs and self.name in listed_names(programs[side])

    def measure(self, side, programs, options):
        n, seconds = self.n, self.seconds
        if options.quick:
            if seconds:
                seconds = 1
            elif not self.once:  # what is neither repeated nor bounded by time measures memory
                n = max(n // 2, 1)
        command = [programs[side], self.name, "--workers", options.workers, "--n", n,
                   "--reps", options.reps]
        if seconds:
            command += ["--seconds", seconds]
        return json.loads(output_of(command).splitlines()[-1])  # a runtime may log before it


class CompileRow:
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


def all_rows(ours):
    return [DriverRow(line) for line in listed(ours)] + [CompileRow()]
