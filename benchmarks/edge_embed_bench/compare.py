"""Old records beside new ones: what got worse by more than noise explains."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass

from edge_embed.errors import InputError
from edge_embed_bench.record import OK, Record
from edge_embed_bench.stats import CONFIDENCE, Ratio, median, median_ratio

LEAST_SAMPLES = 5
"""Fewer samples than this say nothing about noise, and are not compared."""

BETTER, SAME, WORSE, GONE, NEW = "better", "same", "REGRESSION", "GONE", "new"

FIGURES: dict[str, Callable[[Record], list[float]]] = {
    "latency": lambda r: r.latency.samples_s if r.latency else [],
    "latency from text": lambda r: r.text_latency.samples_s if r.text_latency else [],
    "load": lambda r: r.load.warm_s if r.load else [],
    "corpus, per call": lambda r: r.throughput.chunks_s if r.throughput else [],
    "peak memory": lambda r: [float(r.memory.peak_bytes)] if r.memory else [],
    "file size": lambda r: [float(r.storage.file_bytes)] if r.storage else [],
    "cache size": lambda r: [float(r.storage.cache_bytes)] if r.storage and r.storage.cache_bytes else [],
}
"""What is compared; more is worse in all of it."""

_EXACT = {"peak memory", "file size", "cache size"}
"""Figures that hardly vary between runs, so that one reading is enough."""

_MEGABYTES = (1e6, "MB")
_MILLISECONDS = (1e-3, "ms")


@dataclass(frozen=True)
class Difference:
    """One figure of one cell in both.

    Attributes:
        subject: Engine, file and cell.
        old: The median, in seconds or bytes; None where there is none.
        ratio: New over old; its interval is a point where the figure does not vary.
        verdict: `BETTER`, `SAME`, `WORSE`, `GONE` (it failed or is missing now) or `NEW`.
    """

    subject: str
    figure: str
    old: float | None
    new: float | None
    ratio: Ratio | None
    verdict: str

    @property
    def failed(self) -> bool:
        """Whether it must stop a release."""
        return self.verdict in (WORSE, GONE)


def compare(
    old: Sequence[Record], new: Sequence[Record], *, threshold: float, by_file: bool = True
) -> list[Difference]:
    """Compares records cell by cell.

    A figure is worse if the whole interval of its ratio lies beyond 1 + `threshold`, so that neither noise
    nor a small change is one.

    Args:
        old: The records to beat.
        new: The others.
        threshold: How much worse counts, as a share.
        by_file: Whether a record's counterpart must have the same model name and recipe; not when one file
            is compared with another.

    Raises:
        InputError: If they have no cell in common, or too few samples.
    """
    before, after = ({_key(r, by_file): r for r in records} for records in (old, new))
    if not before.keys() & after.keys():
        raise InputError(
            "the reports have no cell in common, so there is nothing to compare",
            got=_cells(new), expected=_cells(old), fix="measure both with the same options",
        )  # fmt: skip
    differences = []
    for key in [*before, *(k for k in after if k not in before)]:
        differences += _differences(before.get(key), after.get(key), threshold)
    if not differences:
        raise InputError(
            "the reports hold no figure that can be compared",
            expected=f"at least {LEAST_SAMPLES} samples per cell", fix="measure with more --repetitions",
        )  # fmt: skip
    return differences


def to_text(differences: Sequence[Difference], threshold: float) -> str:
    """Returns the comparison as a table."""
    head = (
        f"ratio new/old, {CONFIDENCE:.0%} interval; a regression lies beyond {1 + threshold:.3g} as a whole"
    )
    lines = [head, ""]
    width = max((len(d.subject) for d in differences), default=0)
    for d in differences:
        scale, unit = _MEGABYTES if d.figure in _EXACT else _MILLISECONDS
        figures = "  ".join("-".rjust(10) if v is None else f"{v / scale:>10.4g}" for v in (d.old, d.new))
        ratio = f"{d.ratio.value:6.3f} [{d.ratio.low:.3f}, {d.ratio.high:.3f}]" if d.ratio else ""
        lines.append(
            f"{d.subject:<{width}}  {d.figure:<17}  {figures} {unit:<2}  {ratio:<22}  {d.verdict}".rstrip()
        )
    bad = sum(d.failed for d in differences)
    return "\n".join(
        [*lines, "", f"{bad} of {len(differences)} figures regressed" if bad else "no regression", ""]
    )


def to_json(differences: Sequence[Difference], threshold: float) -> str:
    """Returns the comparison as JSON."""
    rows = [asdict(d) for d in differences]
    passed = not any(d.failed for d in differences)
    return json.dumps({"threshold": threshold, "passed": passed, "differences": rows}, indent=1) + "\n"


def _differences(old: Record | None, new: Record | None, threshold: float) -> list[Difference]:
    record = old or new
    assert record is not None
    subject = _subject(record)
    if old is None or old.status != OK:
        return [Difference(subject, "record", None, None, None, NEW)] if new and new.status == OK else []
    if new is None or new.status != OK:
        return [Difference(subject, "record", None, None, None, GONE)]
    found = []
    for figure, values in FIGURES.items():
        first, second = values(old), values(new)
        if not first:
            continue
        if not second:
            found.append(Difference(subject, figure, median(first), None, None, GONE))
        elif figure in _EXACT:
            value = second[0] / first[0]
            found.append(_judged(subject, figure, first, second, Ratio(value, value, value), threshold))
        elif min(len(first), len(second)) >= LEAST_SAMPLES:
            found.append(_judged(subject, figure, first, second, median_ratio(first, second), threshold))
    return found


def _judged(
    subject: str, figure: str, old: list[float], new: list[float], ratio: Ratio, threshold: float
) -> Difference:
    verdict = WORSE if ratio.low > 1 + threshold else BETTER if ratio.high < 1 / (1 + threshold) else SAME
    return Difference(subject, figure, median(old), median(new), ratio, verdict)


def _key(record: Record, by_file: bool) -> Hashable:
    file = (record.model.name, record.model.recipe) if by_file else None
    corpus = record.throughput.corpus if record.throughput else None
    return (record.kind, record.engine.name, file, record.cell, corpus)


def _subject(record: Record) -> str:
    cell = record.cell
    length = f"{cell.length} tokens" if cell.length else "corpus"
    where = f"{cell.target}/{cell.accelerator}"
    return f"{record.label}, {where}, {length}, {cell.threads} threads, batch {cell.batch}"


def _cells(records: Sequence[Record]) -> str:
    return "; ".join(dict.fromkeys(_subject(r) for r in records[:4])) or "no records"
