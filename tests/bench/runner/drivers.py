"""Builds the drivers, ours and the peers', and what loads servers. Each is one program."""

import os
import pathlib
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
COMPILER = "clang++-19"

OURS = "magpie"
NGINX = "nginx"
REDIS = "redis"

# Sides that have no workloads, and what they serve.
SERVERS_ONLY = {"epoll": ["echo", "echo_spread"], NGINX: ["http_hello"], REDIS: ["kv"]}


class Failure(Exception):
    """Ends the run; the text tells what to do."""


def need(*packages):
    """Has Debian's `packages`: installs them as root, otherwise names them. As `dev` does."""
    if shutil.which("dpkg-query") is None:
        return
    missing = [p for p in packages if not _installed(p)]
    if not missing:
        return
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        raise Failure("packages are missing; install them with\n    sudo " + " ".join(install))
    run(["apt-get", "update"])
    run(install, DEBIAN_FRONTEND="noninteractive")


def _installed(package):
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}", package]
    return subprocess.run(query, capture_output=True, text=True).stdout == "installed"


def run(command, cwd=None, **environment):
    """Runs a build step; its output is shown only if it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **{k: str(v) for k, v in environment.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))} failed:\n{done.stdout}")


def _cmake(source, build, target, *options):
    launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
    run(["cmake", "-S", source, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
         f"-DCMAKE_CXX_COMPILER={COMPILER}", *launcher, *options])
    run(["cmake", "--build", build, "--target", target])


def build_magpie(build):
    need("libcli11-dev", "nlohmann-json3-dev")
    _cmake(ROOT, build, "magpie-bench", "-DMAGPIE_BUILD_BENCH=ON", "-DMAGPIE_BUILD_TESTS=OFF",
           "-DMAGPIE_BUILD_EXAMPLES=OFF", "-DMAGPIE_INSTALL=OFF")
    return build / "tests/bench/magpie-bench"


def build_asio(build):
    need("libcli11-dev", "nlohmann-json3-dev", "libboost1.81-dev")
    _cmake(HERE / "peers/asio", build, "asio-bench")
    return build / "asio-bench"


def build_go(build):
    need("golang-go")
    program = build / "go-bench"
    run(["go", "build", "-buildvcs=false", "-o", program, "."], cwd=HERE / "peers/go",
        GOCACHE=build / "cache", GOFLAGS="")
    return program


def build_tokio(build):
    """Offline, from Debian's crates. cargo writes beside Cargo.toml, so it gets a copy."""
    need("librust-tokio-dev", "librust-futures-dev", "librust-tokio-util-dev")
    if shutil.which("cargo") is None:
        need("cargo")
    crate = build / "crate"
    shutil.copytree(HERE / "peers/tokio", crate, dirs_exist_ok=True)
    config = crate / ".cargo/config.toml"
    config.parent.mkdir(exist_ok=True)
    config.write_text(
        '[source.crates-io]\nreplace-with = "debian"\n'
        '[source.debian]\ndirectory = "/usr/share/cargo/registry"\n'
    )
    run(["cargo", "build", "--release", "--offline", "--target-dir", build / "target"], cwd=crate,
        CARGO_HOME=build / "home")
    return build / "target/release/tokio-bench"


def build_tbb(build):
    need("libcli11-dev", "nlohmann-json3-dev", "libtbb-dev")
    _cmake(HERE / "peers/tbb", build, "tbb-bench")
    return build / "tbb-bench"


def build_epoll(build):
    need("libcli11-dev", "nlohmann-json3-dev")
    _cmake(HERE / "peers/epoll", build, "epoll-bench")
    return build / "epoll-bench"


def build_nginx(build):
    """Debian's. Its package would start a service, so only the program is taken out of it."""
    installed = pathlib.Path("/usr/sbin/nginx")
    if installed.exists():
        return installed
    program = build / "usr/sbin/nginx"
    if not program.exists():
        need("libcrypt1", "libpcre2-8-0", "libssl3", "zlib1g")
        try:
            run(["apt-get", "download", "nginx"], cwd=build)
        except Failure:  # the lists may be old
            if os.geteuid() != 0:
                raise
            run(["apt-get", "update"])
            run(["apt-get", "download", "nginx"], cwd=build)
        for package in build.glob("nginx_*.deb"):
            run(["dpkg-deb", "--extract", package, build])
            package.unlink()
    return program


def build_redis(build):
    """The server out of redis-tools: it is the same program as redis-check-rdb, told by its name."""
    need("redis-tools")
    check = shutil.which("redis-check-rdb")
    if check is None:
        raise Failure("there is no redis-check-rdb (package redis-tools); install it, or leave out redis")
    program = build / "redis-server"
    program.unlink(missing_ok=True)
    program.symlink_to(check)
    return program


def build_load(build):
    need("libcli11-dev", "nlohmann-json3-dev")
    _cmake(HERE / "load", build, "bench-load")
    return build / "bench-load"


def build_wrk(_):
    need("wrk")
    program = shutil.which("wrk")
    if program is None:
        raise Failure("there is no wrk; install it, or leave out the http_hello rows")
    return program


def build_redis_benchmark(_):
    need("redis-tools")
    program = shutil.which("redis-benchmark")
    if program is None:
        raise Failure("there is no redis-benchmark (package redis-tools); install it, or leave out the redis rows")
    return program


SIDES = {
    OURS: build_magpie,
    "tokio": build_tokio,
    "go": build_go,
    "asio": build_asio,
    "tbb": build_tbb,
    "epoll": build_epoll,
    NGINX: build_nginx,
    REDIS: build_redis,
}
PEERS = [name for name in SIDES if name != OURS]
TOOLS = {"load": build_load, "wrk": build_wrk, "redis-benchmark": build_redis_benchmark}  # what loads servers


def build(name, folder):
    """Builds a side's program or a tool below `folder` and gives its path."""
    target = (folder / name).resolve()
    target.mkdir(parents=True, exist_ok=True)
    return {**SIDES, **TOOLS}[name](target)
