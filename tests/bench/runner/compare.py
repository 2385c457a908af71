"""Runs a row on all sides, interleaved, and takes the ratios."""

import statistics

# What is compared, and the field of a line that holds it.
MEASURES = {"figure": "figure", "time": "ns_per_op", "cpu": "cpu_ns_per_op"}


def run_row(row, ours, peers, programs, options, pairs, progress):
    """Gives what is written to the file for this row, and the quartiles of its ratios: `ours` / peer."""
    peers = [peer for peer in peers if row.supported(peer, programs)]
    sides = [ours, *peers]
    row.prepare(sides, programs, options, progress)
    lines = {side: [] for side in sides}
    for pair in range(pairs):
        for side in sides:
            progress(f"{row.name}: pair {pair + 1} of {pairs}, {side}")
            lines[side].append(row.measure(side, programs, options))
    ratios = {peer: _ratios(lines[ours], lines[peer]) for peer in peers}
    entry = {
        "workload": row.name,
        "workers": lines[ours][0]["workers"],
        "ours": _middle(lines[ours]),
        "peers": {peer: _middle(lines[peer]) for peer in peers},
        "ratio": {
            peer: {name: quartiles[1] for name, quartiles in of_peer.items()}
            for peer, of_peer in ratios.items()
        },
    }
    return entry, ratios


def _middle(lines):
    """The line of the run with the median figure."""
    return sorted(lines, key=lambda line: line["figure"])[len(lines) // 2]


def _ratios(ours, peers):
    """Quartiles of ours / peer, pair by pair: below 1 we are the better."""
    result = {}
    for name, field in MEASURES.items():
        pairs = [(a.get(field), b.get(field)) for a, b in zip(ours, peers)]
        ratios = [a / b for a, b in pairs if a is not None and b]
        result[name] = _quartiles(ratios) if ratios else (None, None, None)
    return result


def _quartiles(values):
    if len(values) == 1:
        return (values[0],) * 3
    return tuple(statistics.quantiles(values, n=4, method="inclusive"))
