"""The table."""

def rows_of(entry, ratios):
    """The table's rows for one workload, a row a peer."""
    ours = entry["ours"]
    start = [entry["workload"], str(entry["workers"]), _figure(ours)]
    if not entry["peers"]:
        yield start + ["-", "", "", "", ""]
    for peer, line in entry["peers"].items():
        yield start + [peer, _figure(line)] + [
            _ratio(ratios[peer][name]) for name in ("figure", "time", "cpu")
        ]
        start = ["", "", ""]


def table(ours, rows):
    rows = [["workload", "w", ours, "peer", "", "figure", "time", "CPU"], *rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )


def versions(entries):
    """One sentence: which versions were compared."""
    seen = {}
    for entry in entries:
        for line in [entry["ours"], *entry["peers"].values()]:
            seen[f"{line['peer']} {line['version']}"] = None
    return ", ".join(seen)


def _figure(line):
    errors = f" ({line['errors']} errors)" if line.get("errors") else ""
    return f"{_number(line['figure'])} {line['unit']}{errors}"


def _ratio(quartiles):
    low, middle, high = quartiles
    return "" if middle is None else f"{middle:.2f} ({low:.2f}-{high:.2f})"


def _number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
