#!/usr/bin/env python3
"""Measures magpie against other runtimes; README.md beside it says what and how.

    ./dev bench                                 everything against Tokio
    ./dev bench --only fib,skynet --quick       a first look at two rows
    ./dev bench --peers tokio,go,asio --json FILE
"""

import argparse
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys

from runner import compare, drivers, report, rows


def arguments():
    parser = argparse.ArgumentParser(
        prog="./dev bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words = lambda text: [word for word in text.split(",") if word]
    parser.add_argument("--only", type=words, metavar="A,B", help="these rows; --list shows them")
    parser.add_argument("--workers", type=positive, default=2, metavar="N", help="default 2")
    parser.add_argument("--peers", type=words, default=["tokio"], metavar="A,B",
                        help=f"of {','.join(drivers.PEERS)}; default tokio; none: ''")
    parser.add_argument("--reps", type=positive, metavar="R",
                        help="repetitions in a run; default 5, with --quick 3")
    parser.add_argument("--pairs", type=positive, metavar="P", help="default 9, with --quick 5")
    parser.add_argument("--quick", action="store_true",
                        help="half the operations and 1 s in place of longer times")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the lines there")
    parser.add_argument("--list", action="store_true", help="print the rows and who has them")
    parser.add_argument("--smoke", action="store_true",
                        help="run each of our workloads once, small, and measure nothing")
    # For work on the peers alone: one of them stands in for us.
    parser.add_argument("--baseline", choices=drivers.SIDES, default=drivers.OURS, help=argparse.SUPPRESS)
    parser.add_argument("--build-dir", type=pathlib.Path, default=drivers.ROOT / "build/bench",
                        metavar="DIR", help="default build/bench")
    return parser.parse_args()


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def build(names, folder):
    programs = {}
    for name in names:
        progress(f"building {name}")
        programs[name] = drivers.build(name, folder)
    progress("")
    return programs


def chosen_rows(only, ours):
    every = {row.name: row for row in rows.all_rows(ours)}
    unknown = [name for name in only or [] if name not in every]
    if unknown:
        raise drivers.Failure(f"no row {', '.join(unknown)}; there are {', '.join(every)}")
    return [row for name, row in every.items() if not only or name in only]


def left_out(row, ours, programs):
    """Why a row cannot be run, if so."""
    if not row.supported(ours, programs):
        return [f"(left out: {ours} does not have it yet)"]
    lacks = row.lacks()
    return [f"(left out: {lacks})"] if lacks else []


def run(args):
    unknown = [peer for peer in args.peers if peer not in drivers.PEERS]
    if unknown:
        raise drivers.Failure(f"no peer {', '.join(unknown)}; there are {', '.join(drivers.PEERS)}")
    if args.smoke:
        program = build([drivers.OURS], args.build_dir)[drivers.OURS]
        return subprocess.run([program, "--smoke"]).returncode
    ours = args.baseline
    if ours in drivers.SERVERS_ONLY:
        raise drivers.Failure(f"{ours} has no workloads to list: it cannot be the baseline")
    programs = build([ours], args.build_dir)
    selected = chosen_rows(args.only, programs[ours])
    needed = [peer for peer in args.peers if any(row.may_support(peer) for row in selected)]
    if args.list:
        needed = [peer for peer in needed if peer not in drivers.SERVERS_ONLY]
    else:
        needed += [tool for tool in drivers.TOOLS if any(row.tool == tool for row in selected)]
    programs.update(build(needed, args.build_dir))
    if args.list:
        for row in selected:
            peers = [peer for peer in args.peers if row.supported(peer, programs)]
            print(row.name, *peers, *left_out(row, ours, programs))
        return 0
    # A row with thousands of sockets needs it; the drivers inherit it.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    options = rows.Options(args.workers, args.reps or (3 if args.quick else 5), args.quick)
    pairs = args.pairs or (5 if args.quick else 9)
    entries, lines = [], []
    failure = None
    try:
        for row in selected:
            if reasons := left_out(row, ours, programs):
                print(row.name, *reasons, file=sys.stderr)
                continue
            entry, ratios = compare.run_row(row, ours, args.peers, programs, options, pairs, progress)
            entries.append(entry)
            lines += report.rows_of(entry, ratios)
            progress("")
            if row is not selected[-1]:
                print("done:", row.name, file=sys.stderr)
    except KeyboardInterrupt:  # what is there is worth showing
        pass
    except drivers.Failure as error:  # and here
        failure = error
    if not entries:
        raise failure or drivers.Failure("nothing was measured")
    print(report.table(ours, lines))
    print(f"\nRatios are {ours} / peer, below 1 {ours} is better: median (quartiles) of {pairs} pairs,"
          f" {options.reps} repetitions a run.\n{report.versions(entries)}; CPUs: {os.cpu_count()}")
    if args.json:
        args.json.write_text(json.dumps(entries, indent=1) + "\n")
    if failure:
        raise failure
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # servers under way are ended
    try:
        sys.exit(run(arguments()))
    except drivers.Failure as failure:
        sys.exit(f"\nbench: {failure}")
