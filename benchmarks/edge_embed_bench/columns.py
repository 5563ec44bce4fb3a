"""The columns of a table of records, one list for the terminal, Markdown, CSV and HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edge_embed_bench.record import CORPUS, OK, OURS, Record
from edge_embed_bench.stats import median

UNKNOWN = "\u2013"
"""What a table shows where nothing was measured. Never a zero."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: Its name in CSV, with the unit of `value`.
        title: Its head in a table, with the unit after `scale`.
        value: The figure or text of a record, None where there is none.
        scale: Divides the figure for reading.
        digits: Significant digits for reading.
    """

    key: str
    title: str
    value: Callable[[Record], Any]
    scale: float = 1.0
    digits: int = 3

    def show(self, record: Record) -> str:
        """Returns the cell of a table."""
        value = self.value(record)
        if value is None:
            return UNKNOWN
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return _number(value / self.scale, self.digits)
        return str(value)


def _number(value: float, digits: int) -> str:
    """Returns a number with so many significant digits, and every digit before its point."""
    if value == int(value) or abs(value) >= 10 ** (digits - 1):
        return f"{value:.0f}"
    return f"{value:.{digits}g}"


def _of(part: str, name: str) -> Callable[[Record], Any]:
    def value(record: Record) -> Any:
        holder = getattr(record, part)
        return None if holder is None else getattr(holder, name)

    return value


def _middle(name: str) -> Callable[[Record], Any]:
    def value(record: Record) -> Any:
        samples = getattr(record.load, name) if record.load else []
        return median(samples) if samples else None

    return value


def _partitions(record: Record) -> Any:
    delegate = record.delegate
    if delegate is None:
        return None
    return f"{delegate.partitions or 'some'} + {len(delegate.outside)} outside"


def _where(record: Record) -> str:
    return f"{record.cell.target}/{record.cell.accelerator}"


_IDENTITY = [
    Column("engine", "engine", lambda r: r.engine.name),
    Column(
        "model",
        "model",
        lambda r: f"{r.model.name}.{r.model.recipe}" if r.engine.name == OURS else r.model.name,
    ),
    Column("synthetic", "weights", lambda r: "synthetic" if r.model.synthetic else None),
    Column("where", "where", _where),
    Column("emulator", "emulated by", lambda r: r.machine.emulator),
    Column("threads", "threads", lambda r: r.cell.threads),
    Column("batch", "batch", lambda r: r.cell.batch),
]
_LOAD = [
    Column("load_cold_s", "load cold ms", _of("load", "cold_s"), 1e-3),
    Column("load_warm_s", "load warm ms", _middle("warm_s"), 1e-3),
]
_DISK = [
    Column("file_bytes", "file MB", _of("storage", "file_bytes"), 1e6, 4),
    Column("cache_bytes", "cache MB", _of("storage", "cache_bytes"), 1e6, 4),
]
_STATUS = [Column("status", "status", lambda r: r.status if r.error is None else f"{r.status}: {r.error}")]

LATENCY_COLUMNS = [
    *_IDENTITY,
    Column("length_tokens", "tokens", lambda r: r.cell.length),
    *_LOAD,
    Column("first_s", "first ms", _middle("first_s"), 1e-3),
    Column("median_s", "median ms", _of("latency", "median_s"), 1e-3),
    Column("p95_s", "p95 ms", _of("latency", "p95_s"), 1e-3),
    Column("tokens_per_s", "tokens/s", _of("latency", "tokens_per_s")),
    Column("texts_per_s", "texts/s", _of("latency", "texts_per_s")),
    Column("text_tokens", "text tokens", _of("text_latency", "tokens")),
    Column("text_median_s", "from text ms", _of("text_latency", "median_s"), 1e-3),
    Column("rss_bytes", "RSS MB", _of("memory", "rss_bytes"), 1e6),
    Column("anonymous_bytes", "anon MB", _of("memory", "anonymous_bytes"), 1e6),
    Column("peak_bytes", "peak MB", _of("memory", "peak_bytes"), 1e6),
    Column("text_peak_bytes", "peak from text MB", _of("text_memory", "peak_bytes"), 1e6),
    *_DISK,
    Column("partitions", "partitions", _partitions),
    Column("ran_on", "ran on", _of("delegate", "ran_on")),
    Column("cosine_min", "cosine to fp32", _of("agreement", "cosine_min"), 1, 4),
    *_STATUS,
]

CORPUS_COLUMNS = [
    *_IDENTITY,
    Column("corpus", "corpus", _of("throughput", "corpus")),
    Column("documents", "documents", _of("throughput", "documents")),
    Column("tokens", "tokens", _of("throughput", "tokens")),
    Column("truncated", "cut", _of("throughput", "truncated")),
    Column("documents_per_s", "documents/s", _of("throughput", "documents_per_s")),
    Column("corpus_tokens_per_s", "tokens/s", _of("throughput", "tokens_per_s")),
    Column("first_vector_s", "first vector ms", _of("throughput", "first_vector_s"), 1e-3),
    Column("total_s", "total s", _of("throughput", "total_s")),
    Column("corpus_peak_bytes", "peak MB", _of("text_memory", "peak_bytes"), 1e6),
    *_STATUS,
]


def tables(records: Sequence[Record]) -> list[tuple[list[Column], list[Record]]]:
    """Returns the records in one table per kind, without the columns that say nothing in any row."""
    result = []
    for columns, rows in (
        (LATENCY_COLUMNS, [r for r in records if r.kind != CORPUS]),
        (CORPUS_COLUMNS, [r for r in records if r.kind == CORPUS]),
    ):
        if rows:
            used = [c for c in columns if any(c.value(r) is not None for r in rows)]
            result.append((used, rows))
    return result


def remarks(records: Sequence[Record]) -> list[str]:
    """Returns what a reader must know beside the figures: what is synthetic, and what was not measured."""
    lines = []
    if names := sorted({r.model.name for r in records if r.model.synthetic}):
        lines.append(f"synthetic: {', '.join(names)} has random weights; no figure here speaks of quality")
    if emulators := sorted({r.machine.emulator for r in records if r.machine.emulator}):
        lines.append(
            f"emulated: by {', '.join(emulators)}; its times and memory are the emulator's, not comparable "
            "with a device's"
        )
    reasons: dict[tuple[str, str], list[str]] = {}
    for record in records:
        if record.status == OK:
            for name, reason in record.not_measured.items():
                labels = reasons.setdefault((name, reason), [])
                if record.label not in labels:
                    labels.append(record.label)
    lines += [
        f"not measured: {name} of {', '.join(labels)} ({reason})"
        for (name, reason), labels in reasons.items()
    ]
    return lines
