"""Records as CSV: seconds and bytes in full precision. A cell is empty if it was not measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from edge_embed_bench.records.machine import describe
from edge_embed_bench.records.record import Record
from edge_embed_bench.reports.columns import CORPUS_COLUMNS, MEMORY_COLUMNS, SPEED_COLUMNS, Column

_ORIGIN = [
    Column("kind", "", lambda r: r.kind),
    Column("model_sha256", "", lambda r: r.model.sha256),
    Column("machine", "", lambda r: describe(r.machine)),
    Column("command", "", lambda r: r.run.command),
    Column("started", "", lambda r: r.run.started),
]


def to_csv(records: Sequence[Record]) -> str:
    """Returns one row per record. All files have the same columns, so they can be concatenated."""
    every = {c.key: c for c in (*SPEED_COLUMNS, *MEMORY_COLUMNS, *CORPUS_COLUMNS, *_ORIGIN)}
    columns = [c for c in every.values() if c.key not in ("hash", "machine_name")]  # in full further on
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow([c.key for c in columns])
    for record in records:
        writer.writerow(["" if (value := c.value(record)) is None else value for c in columns])
    return sink.getvalue()
