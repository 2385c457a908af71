#!/usr/bin/env python3
"""Checks sources: `lint.py` those of magpie, `lint.py DIR` any tree that uses coroutines.

Of any tree it reports the code that g++ 12 silently miscompiles (traps.py); of its own also what
tree.py has. One line a finding, as compilers write them; ends with 1 if there was one.
"""

import itertools
import os
import pathlib
import sys

import traps
import tree

ROOT = pathlib.Path(__file__).resolve().parents[2]
SUFFIXES = (".cpp", ".hpp", ".cc", ".hh", ".cxx", ".hxx", ".h", ".ipp")


def sources(root):
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "build")
        yield from (pathlib.Path(folder, name) for name in sorted(names) if name.endswith(SUFFIXES))


def trapped(root):
    for path in sources(root):
        for line, message in traps.find(path.read_text(encoding="utf-8", errors="replace")):
            yield path.relative_to(root), line, message


def main(arguments):
    if len(arguments) > 1 or arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 2
    root = pathlib.Path(arguments[0]) if arguments else ROOT
    if not root.is_dir():
        print(f"lint: there is no folder {root}", file=sys.stderr)
        return 2
    found = list(trapped(root) if arguments else itertools.chain(trapped(root), tree.check(root)))
    for name, line, message in found:
        print(f"{root / name if arguments else name}:{line}: {message}")
    print(f"lint: findings: {len(found)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
