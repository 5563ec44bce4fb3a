"""Records as CSV: seconds and bytes, full precision, an empty cell where nothing was measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from edge_embed_bench.columns import CORPUS_COLUMNS, LATENCY_COLUMNS, Column
from edge_embed_bench.machine import describe
from edge_embed_bench.record import Record

_ORIGIN = [
    Column("kind", "", lambda r: r.kind),
    Column("model_sha256", "", lambda r: r.model.sha256),
    Column("machine", "", lambda r: describe(r.machine)),
    Column("command", "", lambda r: r.run.command),
    Column("started", "", lambda r: r.run.started),
]


def to_csv(records: Sequence[Record]) -> str:
    """Returns one row per record with the columns of every kind, so that files can be put together."""
    columns = list({c.key: c for c in (*LATENCY_COLUMNS, *CORPUS_COLUMNS, *_ORIGIN)}.values())
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow([c.key for c in columns])
    for record in records:
        writer.writerow(["" if (value := c.value(record)) is None else value for c in columns])
    return sink.getvalue()
