"""The index's figures as a table: on the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_embed_bench.records.stats import median, percentile

NOT_MEASURED = "–"  # noqa: RUF001 - the sign that the other reports use

HEADER = (
    "engine",
    "chunks",
    "dimension",
    "built/s",
    "file MB",
    "open ms",
    "first query ms",
    "median ms",
    "p95 ms",
    "recall@10",
    "private MB",
)


def cells(row: Mapping[str, Any]) -> list[str]:
    """Returns a row of the table; what was not measured is a dash."""
    samples = [1000 * seconds for seconds in row["samples"]]
    built = row["build_seconds"]
    return [
        row["engine"],
        f"{row['chunks']}",
        f"{row['dimension']}",
        _number(built and row["chunks"] / built, ".0f"),
        _number(row["file_bytes"] and row["file_bytes"] / 1e6, ".1f"),
        _number(row["open_seconds"] and 1000 * row["open_seconds"], ".1f"),
        _number(row["first_seconds"] and 1000 * row["first_seconds"], ".1f"),
        _number(median(samples) if samples else None, ".2f"),
        _number(percentile(samples, 95) if samples else None, ".2f"),
        _number(row["recall"], ".4f"),
        _number(row["private_bytes"] and row["private_bytes"] / 1e6, ".1f"),
    ]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the rows in columns."""
    lines = [list(HEADER), *map(cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ""
    for name, *numbers in lines:
        columns = (cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))
        text += "  ".join([name.ljust(widths[0]), *columns]) + "\n"
    return text + "".join(f"{row['engine']}: {row['error']}\n" for row in rows if row["error"])


def markdown(document: Mapping[str, Any]) -> str:
    """Returns a report with the command and the machine."""
    rows = document["rows"]
    lines = [
        "# The index: speed, size and recall",
        "",
        f"`{document['command']}`",
        "",
        f"Machine: {document['machine']}. One thread.",
        "",
        f"{document['texts']} texts, grown by noise where there are more chunks; {document['queries']} "
        "queries that are not among them. Engines take turns at the queries. Our searches return texts and "
        "snippets too. Times are without embedding the query. Private memory is what the process has above "
        "what it had before opening.",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|---" * len(HEADER) + "|",
        *("| " + " | ".join(cells(row)) + " |" for row in rows),
        "",
        *(f"{row['engine']} at {row['chunks']} chunks: {row['error']}" for row in rows if row["error"]),
    ]
    found = {name: version for row in rows for name, version in row["versions"].items()}
    versions = ", ".join(f"{name} {version}" for name, version in sorted(found.items()))
    return "\n".join([*lines, f"Versions: {versions}."]) + "\n"


def _number(value: float | None, form: str) -> str:
    return NOT_MEASURED if value is None else format(value, form)
