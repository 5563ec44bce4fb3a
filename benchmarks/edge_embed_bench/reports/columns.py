"""The columns of a table of records, one list for the terminal, Markdown, CSV and HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edge_embed_bench.records.record import CORPUS, OK, OURS, Record
from edge_embed_bench.records.stats import median
from edge_embed_bench.reports.labels import HASH_DIGITS, files_by_name, labels, machine_name, model_name

UNKNOWN = "\u2013"
"""The text for a figure that was not measured. It is never a zero."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: Its name in CSV, with the unit of `value`.
        title: Its head in a table, with the unit after `scale`.
        value: The figure or text of a record, None if there is none.
        scale: Divides the figure for reading.
        digits: Significant digits for reading.
        text: Whether it holds words.
        brief: Whether it is in the short tables: what a reader asks first.
    """

    key: str
    title: str
    value: Callable[[Record], Any]
    scale: float = 1.0
    digits: int = 3
    text: bool = False
    brief: bool = False

    def show(self, record: Record) -> str:
        """Returns the cell of a table."""
        value = self.value(record)
        if value is None:
            return UNKNOWN
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return number(value / self.scale, self.digits)
        return str(value)


def number(value: float, digits: int = 3) -> str:
    """Returns a number with `digits` significant digits, and with every digit before the point."""
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


_IDENTITY = [
    Column("engine", "engine", lambda r: r.engine.name, text=True),
    Column("model", "model", model_name, text=True),
    Column("file", "file", lambda r: r.model.file if r.engine.name == OURS else None, text=True),
    Column("hash", "file hash", lambda r: r.model.sha256[:HASH_DIGITS], text=True),
    Column("synthetic", "weights", lambda r: "synthetic" if r.model.synthetic else None, text=True),
    Column("machine_name", "machine", machine_name, text=True),
    Column("where", "where", lambda r: f"{r.cell.target}/{r.cell.accelerator}", text=True),
    Column("emulator", "emulated by", lambda r: r.machine.emulator, text=True),
    Column("threads", "threads", lambda r: r.cell.threads),
    Column("batch", "batch", lambda r: r.cell.batch),
]
_LENGTH = Column("length_tokens", "tokens", lambda r: r.cell.length)
_STATUS = Column(
    "status", "status", lambda r: r.status if r.error is None else f"{r.status}: {r.error}", text=True
)

SPEED_COLUMNS = [
    *_IDENTITY,
    _LENGTH,
    Column("load_cold_s", "load cold ms", _of("load", "cold_s"), 1e-3),
    Column("load_warm_s", "load warm ms", _middle("warm_s"), 1e-3),
    Column("first_s", "first ms", _middle("first_s"), 1e-3),
    Column("median_s", "median ms", _of("latency", "median_s"), 1e-3, brief=True),
    Column("p95_s", "p95 ms", _of("latency", "p95_s"), 1e-3),
    Column("tokens_per_s", "tokens/s", _of("latency", "tokens_per_s")),
    Column("texts_per_s", "texts/s", _of("latency", "texts_per_s")),
    Column("text_tokens", "text tokens", _of("text_latency", "tokens")),
    Column("text_median_s", "from text ms", _of("text_latency", "median_s"), 1e-3),
    Column("cosine_min", "cosine to fp32", _of("agreement", "cosine_min"), 1, 4, brief=True),
    _STATUS,
]

MEMORY_COLUMNS = [
    *_IDENTITY,
    _LENGTH,
    Column("rss_bytes", "RSS MB", _of("memory", "rss_bytes"), 1e6),
    Column("anonymous_bytes", "anon MB", _of("memory", "anonymous_bytes"), 1e6),
    Column("peak_bytes", "peak MB", _of("memory", "peak_bytes"), 1e6, brief=True),
    Column("text_peak_bytes", "peak from text MB", _of("text_memory", "peak_bytes"), 1e6),
    Column("file_bytes", "file MB", _of("storage", "file_bytes"), 1e6, 4, brief=True),
    Column("cache_bytes", "cache MB", _of("storage", "cache_bytes"), 1e6, 4),
    Column("partitions", "partitions", _partitions, text=True),
    Column("ran_on", "ran on", _of("delegate", "ran_on"), text=True),
]

CORPUS_COLUMNS = [
    *_IDENTITY,
    Column("corpus", "corpus", _of("throughput", "corpus"), text=True),
    Column("documents", "documents", _of("throughput", "documents")),
    Column("tokens", "tokens", _of("throughput", "tokens")),
    Column("truncated", "cut", _of("throughput", "truncated")),
    Column("documents_per_s", "documents/s", _of("throughput", "documents_per_s"), brief=True),
    Column("corpus_tokens_per_s", "tokens/s", _of("throughput", "tokens_per_s")),
    Column("first_vector_s", "first vector ms", _of("throughput", "first_vector_s"), 1e-3, brief=True),
    Column("total_s", "total s", _of("throughput", "total_s")),
    Column("corpus_peak_bytes", "peak MB", _of("text_memory", "peak_bytes"), 1e6, brief=True),
    _STATUS,
]

_SHARED = frozenset(
    {"engine", "model", "synthetic", "where", "emulator", "threads", "batch", "ran_on", "corpus", "documents"}
)
"""Columns that become a line above the table if all rows have the same value."""


@dataclass(frozen=True)
class Table:
    """Records in rows.

    Attributes:
        title: The subject of its figures.
        shared: Values that are equal in every row, as titles and texts.
        columns: The columns whose values differ.
    """

    title: str
    shared: list[tuple[str, str]]
    columns: list[Column]
    rows: list[Record]


def tables(records: Sequence[Record], *, full: bool = True) -> list[Table]:
    """Returns the records as tables by subject, without columns that are empty in every row.

    A failed record is a row of the first table of its kind only.

    Args:
        records: The records.
        full: Every figure; otherwise one short table of latencies and one of corpora, with milliseconds,
            megabytes and the cosine.
    """
    latency, corpus = ([r for r in records if (r.kind == CORPUS) is wanted] for wanted in (False, True))
    measured = [r for r in latency if r.status == OK]
    chosen = (
        (
            ("Load and latency", SPEED_COLUMNS, latency),
            ("Memory, size, and where it ran", MEMORY_COLUMNS, measured),
            ("Corpus throughput", CORPUS_COLUMNS, corpus),
        )
        if full
        else (
            ("Latency, memory, size", _brief(latency, SPEED_COLUMNS, MEMORY_COLUMNS), latency),
            ("Corpus throughput", _brief(corpus, CORPUS_COLUMNS), corpus),
        )
    )
    return [_table(title, columns, rows) for title, columns, rows in chosen if rows]


def _brief(rows: Sequence[Record], *parts: Sequence[Column]) -> list[Column]:
    """Returns the columns of a short table: what tells rows apart, the figures asked first, and failures."""
    figures = {c.key: c for part in parts for c in part if c.brief}
    order = ("median_s", "documents_per_s", "first_vector_s", "peak_bytes", "corpus_peak_bytes", "file_bytes")
    ordered = [figures.pop(key) for key in order if key in figures]
    lengths = [_LENGTH] if _LENGTH in parts[0] else []
    status = [_STATUS] if any(r.status != OK for r in rows) else []
    named = [c for c in parts[0] if c.key in ("corpus", "documents")]
    return [*_IDENTITY, *named, *lengths, *ordered, *figures.values(), *status]


def _table(title: str, columns: Sequence[Column], rows: list[Record]) -> Table:
    needless = set()
    if len({machine_name(r) for r in rows}) == 1:
        needless.add("machine_name")
    files = files_by_name(rows).values()
    if all(len(same) == 1 for same in files):
        needless.add("file")
    if all(len({file for file, _ in same}) == len(same) for same in files):
        needless.add("hash")
    used = [c for c in columns if c.key not in needless and any(c.value(r) is not None for r in rows)]
    shared = [c for c in used if c.key in _SHARED and len({c.show(r) for r in rows}) == 1]
    common = [(c.title, c.show(rows[0])) for c in shared]
    return Table(title, common, [c for c in used if c not in shared], rows)


NEAR = 1.05
"""Figures this close to the lowest are marked as well, because one run cannot rank them."""

LEGEND = f"Marked: the lowest at each length, and what is within {NEAR - 1:.0%} of it."


@dataclass(frozen=True)
class Summary:
    """One figure of every subject at every length.

    Attributes:
        rows: The name of a subject and its figures by length; None if there is none.
    """

    title: str
    lengths: list[int]
    rows: list[tuple[str, list[float | None]]]

    def leads(self, row: Sequence[float | None]) -> list[bool]:
        """Returns where a row's figure is within `NEAR` of the lowest at its length."""
        columns = zip(*(figures for _, figures in self.rows), strict=True)
        lowest = [min((v for v in column if v is not None), default=0.0) for column in columns]
        return [v is not None and v <= NEAR * least for v, least in zip(row, lowest, strict=True)]


_SUMMARIES: tuple[tuple[str, Callable[[Record], float | None]], ...] = (
    ("Median latency, ms", lambda r: r.latency.median_s * 1e3 if r.latency else None),
    ("Peak memory, MB", lambda r: r.memory.peak_bytes / 1e6 if r.memory else None),
)


def summaries(records: Sequence[Record]) -> list[Summary]:
    """Returns a table of subjects by lengths if there are several of both."""
    rows = [r for r in records if r.kind != CORPUS]
    lengths, name = sorted({r.cell.length for r in rows}), labels(rows)
    names = list(dict.fromkeys(name(r) for r in rows))
    if len(lengths) < 2 or len(names) < 2:
        return []
    found = []
    for title, figure in _SUMMARIES:
        values = {(name(r), r.cell.length): figure(r) for r in rows if r.status == OK}
        table = [(n, [values.get((n, length)) for length in lengths]) for n in names]
        if any(value is not None for _, row in table for value in row):
            found.append(Summary(title, lengths, table))
    return found


def remarks(records: Sequence[Record]) -> list[str]:
    """Returns remarks for the reader: which figures are synthetic, and what was not measured."""
    lines = []
    if names := sorted({r.model.name for r in records if r.model.synthetic}):
        lines.append(f"synthetic: {', '.join(names)} has random weights; no figure here speaks of quality")
    if emulators := sorted({r.machine.emulator for r in records if r.machine.emulator}):
        lines.append(
            f"emulated: by {', '.join(emulators)}; its times and memory are the emulator's, not comparable "
            "with a device's"
        )
    measured = [r for r in records if r.status == OK]
    reasons: dict[str, dict[tuple[str, ...], list[str]]] = {}
    for field in dict.fromkeys(name for r in measured for name in r.not_measured):
        for reason in dict.fromkeys(r.not_measured[field] for r in measured if field in r.not_measured):
            without = [r.label for r in measured if r.not_measured.get(field) == reason]
            # A field that no record has needs no list of names.
            whose = () if len(without) == len(measured) else tuple(dict.fromkeys(without))
            reasons.setdefault(reason, {}).setdefault(whose, []).append(field)
    for reason, groups in reasons.items():
        for whose, fields in groups.items():
            of = f" of {', '.join(whose)}" if whose else ""
            lines.append(f"not measured: {', '.join(fields)}{of} ({reason})")
    return lines
