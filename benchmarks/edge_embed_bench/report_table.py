"""Records as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from edge_embed_bench.columns import Column, remarks, tables
from edge_embed_bench.machine import describe
from edge_embed_bench.record import Record

_TEXT = frozenset({"engine", "model", "synthetic", "where", "emulator", "corpus", "ran_on", "status"})
_COMMON = frozenset({"where", "emulator", "threads", "batch", "synthetic", "ran_on", "engine"})
"""Columns that a heading states instead where all rows agree."""


def to_table(records: Sequence[Record]) -> str:
    """Returns the tables, with what all rows share above them and remarks below."""
    parts = [describe(records[0].machine)] if records else []
    for columns, rows in tables(records):
        shared = [c for c in columns if c.key in _COMMON and len({c.show(r) for r in rows}) == 1]
        parts += ["", ", ".join(f"{c.title} {c.show(rows[0])}" for c in shared)] if shared else [""]
        parts += _layout([c for c in columns if c not in shared], rows)
    if notes := remarks(records):
        parts += ["", *notes]
    return "\n".join(parts) + "\n"


def _layout(columns: Sequence[Column], rows: Sequence[Record]) -> list[str]:
    cells = [[c.title for c in columns], *([c.show(r) for c in columns] for r in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    return [
        "  ".join(
            text.ljust(width) if column.key in _TEXT else text.rjust(width)
            for text, width, column in zip(row, widths, columns, strict=True)
        ).rstrip()
        for row in cells
    ]
