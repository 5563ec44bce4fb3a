"""Records as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from edge_embed_bench.records.machine import describe
from edge_embed_bench.records.record import Record
from edge_embed_bench.reports.columns import UNKNOWN, Summary, number, remarks, summaries, tables


def to_table(records: Sequence[Record], *, full: bool = False) -> str:
    """Returns the tables, each below the values that its rows share, and the remarks.

    Args:
        records: The records.
        full: Every figure, in wider tables.
    """
    parts = list(dict.fromkeys(describe(r.machine) for r in records))
    for table in tables(records, full=full):
        shared = ", ".join(f"{title} {text}" for title, text in table.shared)
        parts += ["", f"{table.title}: {shared}" if shared else table.title]
        cells = [[c.title for c in table.columns], *([c.show(r) for c in table.columns] for r in table.rows)]
        parts += _layout(cells, [c.text for c in table.columns])
    for summary in summaries(records):
        parts += ["", summary.title, *_layout(_cells(summary), [True, *(False for _ in summary.lengths)])]
    if notes := remarks(records):
        parts += ["", *notes]
    return "\n".join(parts) + "\n"


def _cells(summary: Summary) -> list[list[str]]:
    head = [
        "",
        *(f"{length} tokens" if length == summary.lengths[0] else f"{length}" for length in summary.lengths),
    ]
    return [
        head,
        *([name, *(UNKNOWN if v is None else number(v) for v in row)] for name, row in summary.rows),
    ]


def _layout(cells: Sequence[Sequence[str]], left: Sequence[bool]) -> list[str]:
    widths = [max(len(row[i]) for row in cells) for i in range(len(left))]
    return [
        "  ".join(
            text.ljust(width) if words else text.rjust(width)
            for text, width, words in zip(row, widths, left, strict=True)
        ).rstrip()
        for row in cells
    ]
