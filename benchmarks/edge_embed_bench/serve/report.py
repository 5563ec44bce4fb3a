"""The server's figures as a table: on the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_embed_bench.records.stats import median, percentile, spread

GOAL_RATE, GOAL_TAIL, GOAL_ADDED_MS, GOAL_MEMORY_MB, GOAL_OVERLOAD = 0.7, 3.0, 1.0, 5.0, 2.0
GOAL_PEER = 2.0


def facts(document: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Returns the figures: what was measured, the value, and the goal."""
    rounds, soak, overload = document["rounds"], document["soak"], document["overload"]
    bulk = [turn["bulk"]["texts"] / turn["bulk"]["seconds"] for turn in rounds]
    rates = [_answered(turn["crowd"]) / turn["crowd"]["seconds"] for turn in rounds]
    shares = [served / alone for served, alone in zip(rates, bulk, strict=True)]
    crowd = [1000 * seconds for turn in rounds for seconds in turn["crowd"]["latencies"]]
    added = [1000 * (median(turn["alone"]["latencies"]) - median(turn["single"])) for turn in rounds]
    clients_took, server_took = (
        [turn["crowd"][f"{part}_seconds"] / turn["crowd"]["seconds"] for turn in rounds]
        for part in ("generator", "server")
    )
    usual = [1000 * seconds for seconds in overload["usual"]["latencies"]]
    over = [1000 * seconds for seconds in overload["over"]["latencies"]]
    refused = [1000 * seconds for seconds in overload["over"]["refused"]]
    clients = document["clients"]
    return [
        ("`encode` in bulk, texts/s", spread(bulk, ".0f"), ""),
        (f"{clients} clients, texts/s", spread(rates, ".0f"), ""),
        ("share of bulk", spread(shares, ".2f"), f"≥ {GOAL_RATE}"),
        (f"{clients} clients, median ms", f"{median(crowd):.1f}", ""),
        (
            f"{clients} clients, p99 / median",
            f"{percentile(crowd, 99) / median(crowd):.2f}",
            f"≤ {GOAL_TAIL:g}",
        ),
        *_peer_rows(document, rates),
        ("one client: ms above the model's own", spread(added, ".2f"), f"≤ {GOAL_ADDED_MS:g}"),
        (f"{clients} clients: processor time of all of them, cores", spread(clients_took, ".2f"), ""),
        (f"{clients} clients: processor time of the server, cores", spread(server_took, ".2f"), ""),
        (
            "soak: requests; short connections; abandoned; bad",
            f"{soak['requests']}; {soak['short']}; {soak['abandoned']}; {soak['bad']}",
            "",
        ),
        ("soak: vectors compared; wrong", f"{soak['vectors']}; {soak['wrong_vectors']}", "0 wrong"),
        ("soak: wrong statuses; lost", f"{soak['wrong_statuses']}; {soak['lost']}", "0; 0"),
        (
            "soak: memory after 1,000 requests, MB; growth until the end, MB",
            f"{max(soak['memory'][:10]) / 1e6:.1f}; {_megabytes(soak['growth'])}",
            f"≤ {GOAL_MEMORY_MB:g}",
        ),
        (
            "overload: offered / usual rate",
            f"{overload['offered'] * overload['usual']['seconds'] / _answered(overload['usual']):.1f}",
            "",
        ),
        ("overload: accepted; refused (429); not sent", _counts(overload["over"]), ""),
        ("overload: usual median ms", f"{median(usual):.1f}", ""),
        (
            "overload: median of the accepted / usual median",
            f"{median(over) / median(usual):.2f}" if over else "none",
            f"≤ {GOAL_OVERLOAD:g}",
        ),
        (
            "overload: p99 of the accepted / usual median",
            f"{percentile(over, 99) / median(usual):.2f}" if over else "none",
            "",
        ),
        (
            "overload: ms until a 429, median and p99",
            f"{median(refused):.1f}, {percentile(refused, 99):.1f}" if refused else "none",
            "",
        ),
        (
            "overload: processor time of the clients and of the server, cores",
            ", ".join(
                f"{overload['over'][f'{part}_seconds'] / overload['over']['seconds']:.2f}"
                for part in ("generator", "server")
            ),
            "",
        ),
    ]


def table(document: Mapping[str, Any]) -> str:
    """Returns the figures in columns."""
    rows = facts(document)
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "".join(
        f"{name.ljust(widths[0])}  {value.rjust(widths[1])}  {goal}".rstrip() + "\n"
        for name, value, goal in rows
    )


def markdown(document: Mapping[str, Any]) -> str:
    """Returns a report with the command and the machine."""
    lines = [
        "# The server: rate, latency, memory, overload",
        "",
        f"`{document['command']}`",
        "",
        f"Machine: {document['machine']}. Model: {document['model']}. Clients, server and the model itself "
        "are three processes on this machine, none bound to a core. The clients are raw sockets in one "
        "thread, over loopback, and compare every vector bit for bit. The server logs each request, as it "
        "does by default.",
        "",
        f"Each client sends one text of {document['tokens']} tokens, waits for the answer, sends the next. "
        "The model in bulk, all clients, the model alone and one client take turns; figures are medians of "
        "the rounds, with the lowest and the highest. Where other programs run on the machine, only ratios "
        "within one round can be compared.",
        "",
        "The overloaded server lets a request in while its queue is expected to take no longer than the "
        f"usual latency: that of {document['clients']} clients at a server with its default limits.",
        "",
        "| | measured | goal |",
        "|---|---|---|",
        *(f"| {name} | {value} | {goal} |" for name, value, goal in facts(document)),
    ]
    return "\n".join(lines) + "\n"


def _peer_rows(document: Mapping[str, Any], rates: list[float]) -> list[tuple[str, str, str]]:
    """Returns the rate of each peer, and how many times the best one's ours is."""
    rows, best = [], 0.0
    for name, peer in document["peers"].items():
        theirs = [_answered(turn) / turn["seconds"] for turn in peer["turns"]]
        value = f"error: {peer['error']}" if peer["error"] else spread(theirs, ".0f")
        rows.append((f"{name}, {document['clients']} clients, texts/s", value.replace("|", "/"), ""))
        if not peer["error"]:
            best = max(best, median(theirs))
    if best:
        rows.append(
            ("rate / that of the best other server", f"{median(rates) / best:.2f}", f"≥ {GOAL_PEER:g}")
        )
    return rows


def _counts(turn: Mapping[str, Any]) -> str:
    return f"{_answered(turn)}; {_answered(turn, 429)}; {turn['unsent']}"


def _answered(turn: Mapping[str, Any], status: int = 200) -> int:
    """Returns how many answers had a status. Its keys are strings in a report that was read again."""
    return sum(count for key, count in turn["statuses"].items() if int(key) == status)


def _megabytes(size: int | None) -> str:
    """Returns a number of bytes in MB, or a dash where it was not measured."""
    return "-" if size is None else f"{size / 1e6:.1f}"
