"""What holds in magpie's own tree, beyond what a compiler checks."""

import pathlib
import re
import shutil
import subprocess

from cpp_text import Source, without_comments

COMPONENTS = ("core", "sync", "scheduler", "io")
FORMATTED = COMPONENTS + ("examples", "tests")
PEERS = "tests/bench/peers/"  # other runtimes' drivers are written the way those are written
CLANG_FORMAT = "clang-format-19"

_SEAM = "core/include/magpie/core/detail/atomic.hpp"
_BEHIND_THE_SEAM = re.compile(rf"{_SEAM}|core/src/futex\.\w+")
_ASIO_STANDS_IN = re.compile(r"io/src/|io/include/magpie/io/asio\.hpp$")
_STD_SYNCHRONISATION = re.compile(
    r"\bstd\s*::\s*(atomic(?!_thread_fence)\w*|(recursive_|timed_|shared_|shared_timed_)?mutex"
    r"|condition_variable(_any)?)\b"
)
# Written so that they do not match themselves.
_ELSEWHERE = re.compile(
    r"(?<![\w.])/(?:work\b|root\b|home/)"
    r"|\b(?:deb|security)\.debian\.org|\b(?:static\.|index\.)?crates\.io|\bpypi\.org"
    r"|\b(?:proxy|sum)\.golang\.org|https?://registry\."
)

# A runtime, or an executor whose turns threads run; and what tasks share by reference.
_RUNTIME = re.compile(
    r"^[ \t]*(?:const )?(?:(?:test::)?shared_executor|auto|(?:\w+::)*runtime|std::(?:optional|unique_ptr)<(?:\w+::)*runtime>)"
    r" (\w+)\b",
    re.MULTILINE,
)
_IS_BUILT = re.compile(r"\bbuild\(\)|\bwith_workers\(|\bshared_executor\b")
_SHARED = re.compile(
    r"^[ \t]*(?:const )?(?:std::(?:vector|deque|array)<)?"
    r"(?:std::(?:atomic|latch|mutex)"
    r"|(?:\w+::)*(?:event|mutex|shared_mutex|semaphore|notify|barrier|latch|condition_variable|set_once|once_cell|guarded"
    r"|guarded_shared|trace|permits|rendezvous|arrivals|descriptor_pair))\b(?:<[^;=(]*?>)?[^;=({<&]*?[ >](\w+)(?=[\[{(;=,]| =)",
    re.MULTILINE,
)


def check(root):
    """What is wrong below `root`, as (file, line, message)."""
    names = _files(root)
    sources = [name for name in names if name.endswith((".hpp", ".cpp"))]
    for name in names:
        text = _read(root / name)
        if text is not None:
            yield from _elsewhere(name, text)
    for name in sources:
        if not name.startswith(PEERS):
            yield from _code(name, _read(root / name) or "")
        if name.startswith(("tests/", "examples/")):
            yield from _shared_comes_first(name, Source(_read(root / name) or ""))
    yield from _one_file_logs(root, sources)
    yield from _headers_are_listed(root, sources)
    yield from _tests_are_listed(root, sources)
    yield from _format(root, sources)


def _files(root):
    """All that is committed, or will be."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        names = listed.stdout.split("\0")
    else:  # an archive without .git
        names = (str(path.relative_to(root)) for path in root.rglob("*"))
        names = (name for name in names if not name.startswith("build/"))
    return sorted(name for name in set(names) if (root / name).is_file())


def _read(path):
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None  # not text


def _matches(name, text, pattern, message):
    for match in re.finditer(pattern, text):
        yield name, text.count("\n", 0, match.start()) + 1, message.format(match.group())


def _elsewhere(name, text):
    return _matches(name, text, _ELSEWHERE, "'{}' exists on one machine only, or is nobody's to name here")


def _code(name, text):
    blank = Source(text).text
    component = name.split("/")[0]
    yield from _matches(
        name,
        blank,
        r"\batomic_thread_fence\b",
        "{}: ThreadSanitizer does not see fences; give the order to an operation",
    )
    if component in COMPONENTS and not _BEHIND_THE_SEAM.match(name):
        yield from _matches(
            name,
            blank,
            _STD_SYNCHRONISATION,
            "{}: use what <magpie/core/detail/atomic.hpp> has, so that the model tests see it",
        )
    if component in COMPONENTS and not _ASIO_STANDS_IN.match(name):
        yield from _matches(
            name,
            without_comments(text),
            r"#\s*include\s*[<\"](boost/)?asio\b.*",
            "{}: only io/src and <magpie/io/asio.hpp> may include Asio",
        )


def _shared_comes_first(name, source):
    """A runtime that is destroyed drops its tasks: what they refer to has to be there still."""
    for runtime in _RUNTIME.finditer(source.text):
        end = source.end_of_statement(runtime.end())
        if not _IS_BUILT.search(source.text, runtime.start(), end):
            continue
        for shared in _SHARED.finditer(source.text, end, source.end_of_block(end)):
            if source.opening(shared.start(1)) == source.opening(end):
                message = f"declare '{shared[1]}' before '{runtime[1]}', whose tasks may use it until that is destroyed"
                yield name, source.line(shared.start(1)), message


def _one_file_logs(root, sources):
    """spdlog's header is slow, and a user may put another logger in its place."""
    logging = []
    for name in sources:
        text = without_comments(_read(root / name) or "")
        match = re.search(r"#\s*include\s*[<\"]spdlog\b", text)
        if match and name.split("/")[0] in COMPONENTS:
            logging.append((name, text.count("\n", 0, match.start()) + 1))
    for name, line in logging:
        if len(logging) > 1 or not re.fullmatch(r"scheduler/.*\.cpp", name):
            yield name, line, "spdlog is included by one .cpp file of scheduler only: log through core's hook"


def _headers_are_listed(root, sources):
    for name in sources:
        match = re.fullmatch(rf"({'|'.join(COMPONENTS)})/(include/.+\.hpp)", name)
        if match and not _is_listed(root / match[1] / "CMakeLists.txt", match[2]):
            yield name, 1, f"not among the HEADERS in {match[1]}/CMakeLists.txt: it would not be installed"


def _tests_are_listed(root, sources):
    for name in sources:
        match = re.fullmatch(r"tests/(\w+)/(\w+)_test\.cpp", name)
        if not match:
            continue
        suites = re.findall(r"^TEST_SUITE\(\"(.*)\"\)", _read(root / name), re.MULTILINE)
        if suites != [f"{match[1]}.{match[2]}"]:
            yield name, 1, f'ctest runs TEST_SUITE("{match[1]}.{match[2]}") of it, and it has {suites}'
        if not _is_listed(root / "tests/CMakeLists.txt", match[2]):
            yield name, 1, "not listed in tests/CMakeLists.txt"


def _is_listed(cmake_lists, word):
    if not cmake_lists.exists():
        return False
    text = re.sub(r"#.*", "", cmake_lists.read_text(encoding="utf-8"))
    return re.search(rf"(?<![\w./-]){re.escape(word)}(?![\w./-])", text) is not None


def _format(root, sources):
    names = [name for name in sources if name.split("/")[0] in FORMATTED]
    if not names:
        return
    if shutil.which(CLANG_FORMAT) is None:
        yield names[0], 1, f"{CLANG_FORMAT} is not there to check the format: install it"
        return
    command = [CLANG_FORMAT, "--dry-run", "-Werror", *names]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    badly_formatted = {}
    for match in re.finditer(r"^([^\s:]+):(\d+):\d+: error:", result.stderr, re.MULTILINE):
        badly_formatted.setdefault(match[1], int(match[2]))
    for name, line in badly_formatted.items():
        yield name, line, "not formatted: run `./dev fmt`"
    if result.returncode != 0 and not badly_formatted:
        yield names[0], 1, result.stderr.strip()
