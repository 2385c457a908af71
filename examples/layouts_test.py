"""Runs magpie-layouts, small, and looks at what it says, writes and draws.

    layouts_test.py MAGPIE_LAYOUTS OWN_LAYOUTS
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

PATIENCE = 240  # seconds; under a sanitizer, on a busy machine


def main(program, own):
    listed = run(program, "--list").stdout
    layouts = re.findall(r"^layout (\w+)", listed, re.MULTILINE)
    services = re.findall(r"^service (\w+)", listed, re.MULTILINE)
    loads = re.findall(r"^load (\w+)", listed, re.MULTILINE)
    check(len(layouts) > 1 and len(services) > 1 and len(loads) > 1, listed)
    with tempfile.TemporaryDirectory() as folder:
        compares(program, layouts, services, pathlib.Path(folder))
        of_ones_own(own, layouts, pathlib.Path(folder))
    refuses_nonsense(program)


def compares(program, layouts, services, folder):
    """Each service under the plain load, and one of them under all."""
    short = ["--quick", "--workers", "2", "--seconds", "0.5", "--repetitions", "1", "--connections", "4"]
    run(program, *short, "--loads", "plain", "--json", folder / "services.json")
    rows = json.loads((folder / "services.json").read_text())["rows"]
    found = [(row["service"], row["layout"]) for row in rows]
    check(found == [(s, l) for s in services for l in layouts], f"not each service under each layout: {found}")
    look_at(rows)

    done = run(program, *short, "--services", "kv", "--loads", "plain,pipelined,skewed,short_lived,paced", "--rate", "500,1000",
               "--load-threads", "2", "--json", folder / "report.json", "--html", folder / "report.html", "--svg", folder / "charts")
    written = json.loads((folder / "report.json").read_text())
    check(set(written) == {"machine", "command", "rows"}, f"the JSON has {list(written)}")
    check("--rate 500,1000" in written["command"], written["command"])
    rows = written["rows"]
    loads = list(dict.fromkeys(row["load"] for row in rows))
    check(len(loads) == 6 and len(rows) == 6 * len(layouts), f"{len(rows)} rows for {loads}")
    for load in loads:  # a load is the same under each layout
        check([row["layout"] for row in rows if row["load"] == load] == layouts, load)
    look_at(rows)
    for row in rows:
        if row["rate"]:
            keeps_pace(program, row, folder)
    check(any(row["pipeline"] == 16 for row in rows) and any(row["requests_per_connection"] for row in rows), "the loads")
    verdicts = [line for line in done.stdout.splitlines() if re.search(r"noise.*\.$", line)]
    check(len(verdicts) == len(loads), f"{len(verdicts)} verdicts: {done.stdout}")
    page = (folder / "report.html").read_text()
    check(not re.search(r'(src|href)="(?!data:)', page), "the page needs something beside itself")
    check(page.count("<svg") == len(loads) + 2 + len(layouts), f"{page.count('<svg')} charts")
    charts = sorted((folder / "charts").glob("kv-*.svg"))
    check(len(charts) == page.count("<svg"), f"charts as files: {charts}")
    for chart in charts:
        root = xml.etree.ElementTree.parse(chart).getroot()
        check(root.tag == "{http://www.w3.org/2000/svg}svg", f"{chart}: {root.tag}")
        text = chart.read_text()
        check("<path" in text and not re.search(r'(href|url)', text), f"{chart} needs something beside itself")


def look_at(rows):
    for row in rows:
        check(row["errors"] == 0, f"errors: {row}")
        check(row["requests_per_s"] > 0 and row["cpu_s_per_million"] > 0, f"nothing was done: {row}")
        check(0 < row["p50_us"] <= row["p99_us"] <= row["p999_us"] <= row["max_us"], f"latencies: {row}")


def keeps_pace(program, row, folder):
    """A paced load is not faster than it was asked to be."""
    for seconds in ("3", "15"):  # longer, if it was: what it owed when the window began, after a stall, comes there as well
        if row["requests_per_s"] < 2 * row["rate"]:
            return
        run(program, "--workers", "2", "--seconds", seconds, "--repetitions", "1", "--connections", "4", "--services", "kv",
            "--loads", "paced", "--rate", f"{row['rate']:g}", "--load-threads", "2", "--layouts", row["layout"],
            "--json", folder / "again.json")
        row, = json.loads((folder / "again.json").read_text())["rows"]
    check(row["requests_per_s"] < 2 * row["rate"], f"faster than it was asked: {row}")


def of_ones_own(program, layouts, folder):
    run(program, "--quick", "--loads", "plain", "--seconds", "0.2", "--repetitions", "1", "--connections", "3",
        "--json", folder / "own.json")
    rows = json.loads((folder / "own.json").read_text())["rows"]
    check([(row["service"], row["layout"], row["errors"]) for row in rows] == [("shout", l, 0) for l in layouts], rows)


def refuses_nonsense(program):
    for arguments in (["--services", "nothing"], ["--layouts", "heap"], ["--rate", "0"], ["--connections", "0"],
                      ["--load-threads", "8", "--connections", "4"], ["--services", "echo", "--pipeline", "5000"],
                      ["--services", "echo", "--loads", "plain", "--quick", "--seconds", "0.05", "--repetitions", "1", "--html",
                       "/nowhere/report.html"]):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=PATIENCE)
        check(done.returncode != 0 and done.stderr, f"{arguments}: {done}")


def run(program, *arguments):
    command = [str(word) for word in (program, *arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    check(done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done


def check(condition, message):
    if not condition:
        sys.exit(f"layouts_test.py: {message}")


if __name__ == "__main__":
    main(*sys.argv[1:])
