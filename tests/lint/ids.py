#!/usr/bin/env python3
"""Checks that each listed behaviour has a test, by the table in tests/README.md.

A behaviour has an ID, as TASK-CORE-05. It is covered by a test with the ID in its name, or by a row of
the table with a reason why there is none. A row is

    | ID | test | reason |

where `test` is `file: part of the test's name`, and a reason begins with "no such thing:" or "later:".

    ids.py           checks: each ID is covered, each test that a row names exists
    ids.py --write   writes the rows of all IDs that test names have; rows with a reason stay
"""

import pathlib
import re
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
TABLE_HEAD = "| ID | test | reason |\n|---|---|---|\n"
REASONS = ("no such thing:", "later:")


def _ids(group, numbers, leave_out=()):
    return [f"{group}-{n:02}" for n in numbers if n not in leave_out]


REQUIRED = [
    *_ids("TASK-CORE", range(1, 22)),
    *_ids("TASK-BLOCK", range(1, 15)),
    *_ids("RT-SCHED", range(1, 36), leave_out=(24, 27)),
    *_ids("RT-LIFE", range(1, 25)),
    *_ids("RT-LOCAL", range(1, 14)),
    *_ids("TIME-CORE", range(1, 33)),
    *_ids("CPP", range(1, 27), leave_out=(20, 21)),
    *_ids("SCOPE", (*range(1, 14), 16, 17, 18, 19, 21, 23, 25, 27)),
    *_ids("IO-FD", range(1, 15)),
    *_ids("NET-CORE", range(1, 14)),
    *_ids("PROC-SIG", range(9, 18)),
    *_ids("SC-TOKEN", range(1, 13)),
    *_ids("TASK-SETS", range(1, 25)),
    *_ids("SC-SELECT", range(1, 21)),
    *_ids("SYNC-MPSC", range(1, 64)),
    *_ids("UTIL-MPSC", range(1, 9)),
    *_ids("SYNC-ONESHOT", range(1, 16)),
    *_ids("SYNC-BCAST", range(1, 28)),
    *_ids("SYNC-WATCH", range(1, 20)),
    *_ids("SYNC-MUTEX", range(1, 12)),
    *_ids("SYNC-RW", range(1, 14)),
    *_ids("SYNC-SEM", range(1, 18)),
    *_ids("SYNC-NOTIFY", range(1, 18)),
    *_ids("SYNC-ONCE", range(1, 11)),
    *_ids("TASK-LOCAL", range(1, 6)),
]

_ID = re.compile(r"\b(?:[A-Z]+-)+\d\d\b")
_LITERALS = r'((?:\s*"(?:\\.|[^"\\\n])*")+)'
_TEST_CASE = re.compile(rf"\bTEST_CASE(?:_TEMPLATE(?:_DEFINE)?|_FIXTURE)?\s*\((?:[^\"()]*,)?{_LITERALS}")
_CTEST = re.compile(r"\badd_test\s*\(\s*(?:NAME\s+)?([^\s()]+)")
_MUST_NOT_COMPILE = re.compile(r"\A// (.*)")


def test_names(tests):
    """{file: names of its tests}, of all below the folder `tests`."""
    patterns = [
        ("*.cpp", _TEST_CASE),
        ("CMakeLists.txt", _CTEST),
        ("compile_fail/*.cpp", _MUST_NOT_COMPILE),
    ]
    found = {}
    for files, pattern in patterns:
        for path in sorted(tests.rglob(files)):
            names = pattern.findall(path.read_text(encoding="utf-8", errors="replace"))
            if pattern is _TEST_CASE:
                names = ["".join(re.findall(r'"((?:\\.|[^"\\])*)"', name)) for name in names]
            if names:
                found.setdefault(path.relative_to(tests).as_posix(), []).extend(names)
    return found


def covered(names):
    """{ID: (file, name of the first test that has it)}."""
    found = {}
    for file, in_file in sorted(names.items()):
        for name in in_file:
            for identifier in _ID.findall(name):
                found.setdefault(identifier, (file, name))
    return found


def rows(readme):
    """{ID: (test, reason)} of the table; the rows begin behind TABLE_HEAD and end at a line that is none."""
    table = readme.partition(TABLE_HEAD)[2]
    found = {}
    for line in re.match(r"(?:\|.*\n)*", table).group().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        found[cells[0]] = (cells + ["", ""])[1], (cells + ["", ""])[2]
    return found


def problems(readme, names, required=None):
    by_name, table = covered(names), rows(readme)
    for identifier in REQUIRED if required is None else required:
        test, reason = table.get(identifier, ("", ""))
        if identifier not in by_name and not test and not reason:
            yield f"{identifier}: no test has it in its name, and the table has no reason why"
    for identifier, (test, reason) in table.items():
        if not _ID.fullmatch(identifier):
            yield f"'{identifier}' in the table is no ID"
        if reason and not reason.startswith(REASONS):
            yield f"{identifier}: a reason begins with one of {', '.join(REASONS)}"
        if not test and not reason:
            yield f"{identifier}: its row names neither a test nor a reason"
        file, _, part = test.partition(": ")
        if test and not any(part in name for name in names.get(file, [])):
            yield f"{identifier}: no test '{part}' in tests/{file}; `ids.py --write` renews the table"


def written(readme, names):
    """The text of the README with the table's rows renewed."""
    table = {i: ("", reason) for i, (_, reason) in rows(readme).items() if reason}
    for identifier, (file, name) in covered(names).items():
        table[identifier] = f"{file}: {name.partition('|')[0].strip()}", table.get(identifier, ("", ""))[1]
    order = {identifier: place for place, identifier in enumerate(REQUIRED)}
    lines = sorted(table, key=lambda i: (order.get(i, len(order)), i))
    new = "".join(f"| {i} | {table[i][0]} | {table[i][1]} |\n" for i in lines)
    before, head, after = readme.partition(TABLE_HEAD)
    return before + head + new + re.sub(r"\A(?:\|.*\n)*", "", after)


def main(arguments):
    readme, names = TESTS / "README.md", test_names(TESTS)
    text = readme.read_text(encoding="utf-8")
    if TABLE_HEAD not in text:
        print(f"ids: tests/README.md has no table that begins with\n{TABLE_HEAD}")
        return 1
    if arguments == ["--write"]:
        text = written(text, names)
        readme.write_text(text, encoding="utf-8")
    elif arguments:
        print(__doc__)
        return 2
    found = list(problems(text, names))
    print(*found, f"ids: {len(REQUIRED)} behaviours, problems: {len(found)}", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
