"""Compares old records with new ones and finds what became slower or larger."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import asdict, dataclass

from edge_embed.errors import InputError
from edge_embed_bench.records.machine import describe
from edge_embed_bench.records.record import OK, OURS, Record
from edge_embed_bench.records.stats import CONFIDENCE, Ratio, median, median_ratio
from edge_embed_bench.reports.labels import files_by_name

LEAST_SAMPLES = 5
"""With fewer samples the noise is unknown, so they are not compared."""

BETTER, SAME, UNSURE, WORSE, GONE = "better", "same", "unsure", "REGRESSION", "GONE"
NEW, UNCOMPARED = "new", "not compared"

FIGURES: dict[str, Callable[[Record], list[float]]] = {
    "latency": lambda r: r.latency.samples_s if r.latency else [],
    "latency from text": lambda r: r.text_latency.samples_s if r.text_latency else [],
    "load": lambda r: r.load.warm_s if r.load else [],
    "corpus, per call": lambda r: r.throughput.chunks_s if r.throughput else [],
    "peak memory": lambda r: [float(r.memory.peak_bytes)] if r.memory else [],
    "file size": lambda r: [float(r.storage.file_bytes)] if r.storage else [],
    "cache size": lambda r: [float(r.storage.cache_bytes)] if r.storage and r.storage.cache_bytes else [],
}
"""The figures that are compared. A higher value is worse in each."""

_EXACT = {"peak memory", "file size", "cache size"}
"""Figures that hardly vary between runs, so one reading is enough."""

_MEGABYTES = (1e6, "MB")
_MILLISECONDS = (1e-3, "ms")


@dataclass(frozen=True)
class Difference:
    """One figure of one cell in both.

    Attributes:
        subject: Engine, file and cell.
        old: The median, in seconds or bytes; None where there is none.
        ratio: New over old; its interval is a point where the figure does not vary.
        verdict: `BETTER`, `SAME`, `WORSE`, `UNSURE` (the median is beyond the threshold, a part of the
            interval is not), `GONE` (it failed or is missing now), `NEW`, or `UNCOMPARED`.
        note: The reason, if the figures do not show it.
    """

    subject: str
    figure: str
    old: float | None
    new: float | None
    ratio: Ratio | None
    verdict: str
    note: str = ""

    @property
    def failed(self) -> bool:
        """Whether it is a regression."""
        return self.verdict in (WORSE, GONE)


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        threshold: How much worse counts, as a share.
        differences: Every figure of every cell.
        conditions: Other differences between the reports, which may be the cause.
    """

    threshold: float
    differences: list[Difference]
    conditions: list[str]

    @property
    def failed(self) -> list[Difference]:
        """Returns the regressions."""
        return [d for d in self.differences if d.failed]


def compare_records(
    old: Sequence[Record], new: Sequence[Record], *, threshold: float, by_file: bool = True
) -> Comparison:
    """Compares records cell by cell.

    A figure is worse if the whole interval of its ratio is above 1 + `threshold`. So neither noise nor a
    small change counts.

    Args:
        old: The earlier records.
        new: The later records.
        threshold: How much worse counts, as a share.
        by_file: Whether a record's counterpart must be of the same model; not when one file is compared
            with another.

    Raises:
        InputError: If they have no cell in common, a cell twice, or nothing that can be compared.
    """
    # An old and a new build in one report share their name; then the file tells them apart.
    twins = {name for side in (old, new) for name, files in files_by_name(side).items() if len(files) > 1}
    before, after = (_by_cell(records, by_file, twins) for records in (old, new))
    if not before.keys() & after.keys():
        raise InputError(
            "the reports have no cell in common, so there is nothing to compare",
            got=_cells(new),
            expected=_cells(old),
            fix="measure both with the same options",
        )
    differences = []
    for key in [*before, *(k for k in after if k not in before)]:
        differences += _differences(before.get(key), after.get(key), threshold, twins)
    if all(d.verdict == UNCOMPARED for d in differences):
        raise InputError(
            "the reports hold no figure that can be compared",
            got="; ".join(dict.fromkeys(d.note for d in differences)),
            expected=f"at least {LEAST_SAMPLES} samples per cell",
            fix="measure with more --repetitions",
        )
    return Comparison(threshold, differences, conditions(old, new))


def to_text(comparison: Comparison) -> str:
    """Returns the comparison as a table, with the regressions repeated below it."""
    differences, limit = comparison.differences, 1 + comparison.threshold
    lines = [
        f"ratio new/old with its {CONFIDENCE:.0%} interval; "
        f"a regression lies beyond {limit:.4g} with its whole interval",
        *(f"not the same in both: {line}" for line in comparison.conditions),
        "",
    ]
    width = max((len(d.figure) for d in differences), default=0)
    subject = None
    for d in differences:
        if d.subject != subject:
            subject = d.subject
            lines.append(subject)
        old, new, unit = _shown(d)
        ratio = f"{d.ratio.value:6.3f} {_interval(d)}" if d.ratio else ""
        verdict = f"{d.verdict}: {d.note}" if d.note else d.verdict
        lines.append(f"  {d.figure:<{width}}  {old:>8}  {new:>8} {unit}  {ratio:<21}  {verdict}".rstrip())
    lines.append("")
    if unsure := sum(d.verdict == UNSURE for d in differences):
        lines.append(f"{unsure} of {len(differences)} figures unsure: raise --repetitions")
    lines += [_sentence(d, comparison.threshold) for d in comparison.failed]
    bad = len(comparison.failed)
    return "\n".join(
        [*lines, f"{bad} of {len(differences)} figures regressed" if bad else "no regression", ""]
    )


def to_json(comparison: Comparison) -> str:
    """Returns the comparison as JSON."""
    content = {
        "threshold": comparison.threshold,
        "passed": not comparison.failed,
        "conditions": comparison.conditions,
        "differences": [asdict(d) for d in comparison.differences],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _differences(
    old: Record | None, new: Record | None, threshold: float, twins: set[str]
) -> list[Difference]:
    subject = _subject(old, new, twins)
    if old is None or old.status != OK:
        if new is None or new.status != OK:
            return [Difference(subject, "record", None, None, None, UNCOMPARED, "it failed in both")]
        return [Difference(subject, "record", None, None, None, NEW)]
    if new is None or new.status != OK:
        why = (new and new.error) or "it was not measured"
        return [Difference(subject, "record", None, None, None, GONE, why)]
    found = []
    for figure, values in FIGURES.items():
        first, second = values(old), values(new)
        if not first:
            continue
        fewest = min(len(first), len(second))
        if not second:
            found.append(Difference(subject, figure, median(first), None, None, GONE))
        elif figure in _EXACT:
            value = second[0] / first[0]
            found.append(_judged(subject, figure, first, second, Ratio(value, value, value), threshold))
        elif fewest >= LEAST_SAMPLES:
            found.append(_judged(subject, figure, first, second, median_ratio(first, second), threshold))
        else:
            note = f"{fewest} samples, at least {LEAST_SAMPLES} are needed"
            found.append(Difference(subject, figure, median(first), median(second), None, UNCOMPARED, note))
    return found


def _judged(
    subject: str, figure: str, old: list[float], new: list[float], ratio: Ratio, threshold: float
) -> Difference:
    limit = 1 + threshold
    verdict = SAME
    if ratio.low > limit:
        verdict = WORSE
    elif ratio.high < 1 / limit:
        verdict = BETTER
    elif not 1 / limit <= ratio.value <= limit:
        verdict = UNSURE
    return Difference(subject, figure, median(old), median(new), ratio, verdict)


def _by_cell(records: Sequence[Record], by_file: bool, twins: set[str]) -> dict[Hashable, Record]:
    found: dict[Hashable, Record] = {}
    for record in records:
        own = record.engine.name == OURS
        name = (record.model.name, record.model.recipe) if by_file else None
        file = record.model.file if by_file and own and record.label in twins else None
        corpus = record.throughput.corpus if record.throughput else None
        key = (record.kind, record.engine.name, name, file, record.cell, corpus)
        if key in found:
            raise InputError(
                "a report has the same cell twice",
                got=_subject(record),
            )
        found[key] = record
    return found


def conditions(old: Sequence[Record], new: Sequence[Record]) -> list[str]:
    """Returns what else differs between two reports: machines, packages, sampling."""
    facts: list[tuple[str, Callable[[Record], list[str]]]] = [
        ("machine", lambda r: [describe(r.machine)]),
        ("CPU features", lambda r: [" ".join(r.machine.features)]),
        ("packages", lambda r: [f"{name} {version}" for name, version in r.engine.versions.items()]),
        ("seed of the token ids", lambda r: [str(r.run.seed)]),
    ]
    lines = []
    for title, values in facts:
        before, after = (
            dict.fromkeys(v for r in records if r.status == OK for v in values(r)) for records in (old, new)
        )
        gone, come = ([v for v in a if v not in b] for a, b in ((before, after), (after, before)))
        if gone or come:
            lines.append(f"{title}: {', '.join(gone) or 'none'} → {', '.join(come) or 'none'}")
    return lines


def _shown(difference: Difference) -> tuple[str, str, str]:
    scale, unit = _MEGABYTES if difference.figure in _EXACT else _MILLISECONDS
    old, new = ("-" if v is None else f"{v / scale:.4g}" for v in (difference.old, difference.new))
    return old, new, unit if difference.old or difference.new else "  "


def _interval(difference: Difference) -> str:
    ratio = difference.ratio
    exact = ratio is None or ratio.low == ratio.high
    return "" if ratio is None or exact else f"[{ratio.low:.3f}, {ratio.high:.3f}]"


def _sentence(difference: Difference, threshold: float) -> str:
    """Returns which cell regressed and by how much, for readers of the end of a log."""
    d = difference
    if d.ratio is None:
        return f"{d.verdict}: {d.subject}: {d.figure}{': ' if d.note else ''}{d.note}"
    old, new, unit = _shown(d)
    interval = f", interval {_interval(d)}" if _interval(d) else ""
    return (
        f"{d.verdict}: {d.subject}: {d.figure} {old} → {new} {unit}, {d.ratio.value - 1:+.1%}{interval}; "
        f"allowed {threshold:+.1%}"
    )


def _subject(old: Record | None, new: Record | None = None, twins: Collection[str] = ()) -> str:
    record = old or new
    assert record is not None
    cell, name = record.cell, record.label
    if old and new and record.engine.name == OURS and old.model.file != new.model.file:
        name = f"{old.model.file} → {new.model.file}"
    elif name in twins:
        name = record.model.file
    length = f"{cell.length} tokens" if cell.length else "corpus"
    where = f"{cell.target}/{cell.accelerator}"
    return f"{name}, {where}, {length}, {cell.threads} threads, batch {cell.batch}"


def _cells(records: Sequence[Record]) -> str:
    return "; ".join(dict.fromkeys(_subject(r) for r in records[:4])) or "no records"
