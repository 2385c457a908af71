"""Opens the report of magpie-layouts in headless Chromium and looks at it.

    browser_test.py MAGPIE_LAYOUTS

Where there is no Chromium it ends with 77, which ctest counts as skipped.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

PATIENCE = 240  # seconds; on a busy machine
SKIPPED = 77

# Added to a copy of the page: what the browser has made of it.
LOOK = """
<script>
window.addEventListener("load", () => {
    const box = e => e.getBoundingClientRect();
    const seen = {
        errors: window.mistakes,
        title: document.title,
        text: document.body.innerText,
        charts: [...document.querySelectorAll("figure")].map(figure => ({
            title: figure.querySelector("figcaption").innerText,
            width: box(figure.querySelector("svg")).width,
            height: box(figure.querySelector("svg")).height,
            labels: figure.querySelectorAll("svg text").length,
            lines: [...figure.querySelectorAll("path")].map(path => ({
                length: path.getTotalLength(),
                inside: box(path).left >= box(figure).left - 1 && box(path).right <= box(figure).right + 1 &&
                    box(path).top >= box(figure).top - 1 && box(path).bottom <= box(figure).bottom + 1,
                color: getComputedStyle(path).stroke,
            })),
        })),
        wider: document.documentElement.scrollWidth > window.innerWidth,
    };
    const out = document.createElement("pre");
    out.id = "seen";
    out.textContent = JSON.stringify(seen);
    document.body.append(out);
});
</script>
"""
WATCH = """<script>
window.mistakes = [];
window.addEventListener("error", e => window.mistakes.push(String(e.message || e.target.outerHTML)), true);
</script>
"""


def main(program):
    chromium = shutil.which("chromium")
    if chromium is None:
        print("skipped: there is no chromium (package chromium) to look at the report")
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a browser's last child may still write
        folder = pathlib.Path(folder)
        page = folder / "report.html"
        command = [program, "--quick", "--services", "echo,kv", "--loads", "plain,paced", "--rate", "500,1000", "--seconds",
                   "0.3", "--repetitions", "1", "--connections", "4", "--html", page]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        check(done.returncode == 0, f"magpie-layouts ended with {done.returncode}: {done.stderr}")
        html = page.read_text()
        (folder / "watched.html").write_text(html.replace("<style>", WATCH + "<style>", 1).replace("</html>", LOOK + "</html>"))

        said = browse(chromium, folder, "--screenshot=" + str(folder / "report.png"), page)
        mistakes = re.findall(r".*CONSOLE.*", said.stderr)
        check(not mistakes, f"the browser complains: {mistakes}")
        check((folder / "report.png").stat().st_size > 20_000, "the screenshot is empty")
        if "MAGPIE_SCREENSHOT" in os.environ:  # to look at it oneself
            shutil.copy(folder / "report.png", os.environ["MAGPIE_SCREENSHOT"])

        said = browse(chromium, folder, "--dump-dom", folder / "watched.html")
        found = re.search(r'<pre id="seen">(.*?)</pre>', said.stdout, re.DOTALL)
        check(found, f"the page has not been shown: {said.stderr[-2000:]}")
        text = found[1]
        for name, character in (("lt", "<"), ("gt", ">"), ("amp", "&")):
            text = text.replace(f"&{name};", character)
        look_at(json.loads(text), html)


def browse(chromium, folder, *arguments):
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
               "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", "--window-size=1240,3000", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    check(done.returncode == 0, f"chromium ended with {done.returncode}: {done.stderr[-2000:]}")
    return done


def look_at(seen, html):
    check(seen["errors"] == [], f"errors in the page: {seen['errors']}")
    check(seen["title"] == "magpie-layouts", seen["title"])
    check(not seen["wider"], "the page is wider than its window")
    for words in ("magpie-layouts --quick --services echo,kv", "requests/s", "thread_per_core", "echo, 4 connections, closed loop"):
        check(words in seen["text"], f"the page does not say '{words}'")
    check(len(seen["charts"]) == html.count("<svg") > 0, f"{len(seen['charts'])} charts are shown")
    titles = " / ".join(chart["title"] for chart in seen["charts"])
    for title in ("Latency, ", "Throughput against offered load", "Processors, "):
        check(title in titles, f"no chart '{title}': {titles}")
    for chart in seen["charts"]:
        check(chart["width"] > 200 and chart["height"] > 100, f"a chart has no size: {chart}")
        check(chart["labels"] >= 4, f"a chart has no labels: {chart}")
        check(len(chart["lines"]) > 0, f"a chart has no lines: {chart}")
        for line in chart["lines"]:
            check(line["length"] > 20 and line["inside"], f"a line is not to be seen: {chart}")
            check(line["color"] not in ("none", "rgba(0, 0, 0, 0)"), f"a line has no colour: {chart}")


def check(condition, message):
    if not condition:
        sys.exit(f"browser_test.py: {message}")


if __name__ == "__main__":
    main(*sys.argv[1:])
