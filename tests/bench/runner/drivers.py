"""Builds the drivers: ours and the peers'. Each is one program; `build` gives its path."""

import os
import pathlib
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
COMPILER = "clang++-19"

OURS = "magpie"


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
    need("librust-tokio-dev")
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


BUILDS = {OURS: build_magpie, "tokio": build_tokio, "go": build_go, "asio": build_asio}
PEERS = [name for name in BUILDS if name != OURS]


def build(name, folder):
    """Builds the driver `name` below `folder` and gives the path of its program."""
    target = (folder / name).resolve()
    target.mkdir(parents=True, exist_ok=True)
    return BUILDS[name](target)
