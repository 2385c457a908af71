"""A server under load: a process of its own that is started, watched, and ended whatever happens."""

import contextlib
import functools
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import tempfile
import time

from .drivers import NGINX, OURS, REDIS, Failure

PATIENCE = 20  # seconds for a server to begin or to end


class Server:
    """What is to be known of a server: its port, and what the processes that serve have used."""

    def __init__(self, version, port, pids):
        self.version = version
        self.port = port
        self.pids = pids

    def cpu_seconds(self):
        return sum(time.clock_gettime_ns(_cpu_clock(pid)) for pid in self.pids) / 1e9

    def resident_bytes(self):
        return sum(
            int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids
        ) * os.sysconf("SC_PAGESIZE")

    def peak_rss_kb(self):
        found = (re.search(r"VmHWM:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())
                 for pid in self.pids)
        return sum(int(match[1]) for match in found)

    def open_sockets(self):
        # Not all its files: a thread that begins opens some of /sys and /proc for a moment.
        return sum(_is_socket(file) for pid in self.pids for file in pathlib.Path(f"/proc/{pid}/fd").iterdir())


def _is_socket(file):
    try:
        return os.readlink(file).startswith("socket:")
    except FileNotFoundError:  # closed meanwhile
        return False


def _cpu_clock(pid):
    """What clock_getcpuclockid(3) gives for another process."""
    return ~pid << 3 | 2


@contextlib.contextmanager
def serving(side, program, name, workers, layout=None):
    """Runs `side`'s server `name` and gives a Server. A layout is ours alone."""
    with tempfile.TemporaryDirectory(prefix="magpie-bench-") as folder, _log() as log:
        start = {NGINX: _nginx, REDIS: _redis}.get(side, _driver)
        if side == OURS and layout:
            start = functools.partial(_driver, layout=layout)
        with start(program, name, workers, log, pathlib.Path(folder)) as (server, process):
            try:
                yield server
            except Exception as error:
                if process.poll() is None:
                    raise
                raise _ended_early(program, process, log) from error
            if process.poll() is not None:
                raise _ended_early(program, process, log)


@contextlib.contextmanager
def _log():
    """A file for what a server says on standard error: shown if it fails."""
    with tempfile.TemporaryFile("w+") as log:
        yield log


def _ended_early(program, process, log):
    log.seek(0)
    return Failure(f"{program} ended under load, with {process.returncode}:\n{log.read()}")


@contextlib.contextmanager
def _ending(process, ask):
    """Ends the process, first by `ask`; the processes it has started end with it, or are killed too."""
    try:
        yield
    finally:
        children = _children(process.pid)
        with contextlib.suppress(OSError):
            ask()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            for pid in [process.pid, *children]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
            print(f"bench: a server did not end within {PATIENCE} s and was killed:", *process.args)


def _children(pid):
    try:
        return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


# ---- drivers -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _driver(program, name, workers, log, _, layout=None):
    command = [str(program), "serve", name, "--workers", str(workers)]
    command += ["--layout", layout] if layout else []
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
    with process.stdout, process.stdin, _ending(process, process.stdin.close):
        line = _first_line(process)
        if line is None:
            process.kill()
            process.wait()
            log.seek(0)
            raise Failure(f"{' '.join(command)} did not say where it serves:\n{log.read()}")
        yield Server(line["version"], line["port"], [line["pid"]]), process
    if process.returncode != 0:
        log.seek(0)
        raise Failure(f"{' '.join(command)} ended with {process.returncode}:\n{log.read()}")


def _first_line(process):
    """The JSON line of a driver, or None; a runtime may log before it."""
    deadline = time.monotonic() + PATIENCE
    text = b""
    while True:
        for line in text.split(b"\n")[:-1]:
            if line.startswith(b"{"):
                return json.loads(line)
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            return None
        more = os.read(process.stdout.fileno(), 4096)
        if not more:
            return None
        text += more


# ---- nginx -------------------------------------------------------------------------------------------

_CONFIGURATION = """
daemon off;
{user}
worker_processes {workers};
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;  # by default it closes a connection after 1000
    default_type text/plain;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ return 200 "Hello, world!"; }}
    }}
}}
"""


@contextlib.contextmanager
def _nginx(program, _, workers, log, folder):
    port = _free_port()
    configuration = folder / "nginx.conf"
    # Root's workers would become www-data, which there need not be.
    user = "user root;" if os.geteuid() == 0 else ""
    configuration.write_text(
        _CONFIGURATION.format(user=user, workers=workers, folder=folder, port=port)
    )
    # It would outlive us; a driver ends with its standard input.
    command = ["setpriv", "--pdeathsig", "TERM", str(program)]
    command += ["-p", str(folder), "-c", str(configuration), "-e", "stderr"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    with _ending(process, process.terminate):
        if not _accepts(port, process) or len(_children(process.pid)) != workers:
            log.seek(0)
            raise Failure(f"{' '.join(command)} does not serve:\n{log.read()}")
        version = subprocess.run([program, "-v"], capture_output=True, text=True).stderr
        yield Server(version.strip().rpartition("/")[2], port, _children(process.pid)), process


# ---- redis -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _redis(program, _name, _workers, log, folder):
    """As it comes, one thread for all its keys, and nothing written to disk."""
    port = _free_port()
    command = ["setpriv", "--pdeathsig", "TERM", str(program), "--port", str(port), "--bind", "127.0.0.1",
               "--save", "", "--appendonly", "no", "--dir", str(folder), "--loglevel", "warning"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    with _ending(process, process.terminate):
        if not _accepts(port, process):
            log.seek(0)
            raise Failure(f"{' '.join(command)} does not serve:\n{log.read()}")
        version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
        found = re.search(r"v=(\S+)", version)
        yield Server(found[1] if found else "unknown", port, [process.pid]), process


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _accepts(port, process):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), PATIENCE).close()
            return True
        time.sleep(0.01)
    return False
