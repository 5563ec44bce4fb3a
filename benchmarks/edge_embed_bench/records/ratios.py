"""Ratios beside other engines: whether a later run still reaches those of a published report.

A ratio says how many times better this project is than a peer in the same cell of the same run. It moves
less than a time does when the machine changes its clock or is busy, because both engines take turns.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from edge_embed.errors import InputError
from edge_embed_bench.records.comparison import LEAST_SAMPLES, conditions
from edge_embed_bench.records.record import OK, OURS, Cell, Record
from edge_embed_bench.records.stats import CONFIDENCE, Ratio, median_ratio

HELD, BETTER, UNSURE, FELL = "held", "better", "unsure", "FELL"
GONE, UNCOMPARED = "GONE", "not compared"


@dataclass(frozen=True)
class Standing:
    """One ratio in both reports.

    Attributes:
        subject: Our file.
        peer: The other engine.
        cell: Where both were measured.
        figure: A key of `FIGURES`.
        old: The published ratio.
        new: The later one; None if it could not be measured.
        verdict: `FELL` if the whole new interval is below the published one, `UNSURE` if only the new median
            is, `BETTER` if the whole new interval is above it, `HELD` otherwise; `GONE` if our file failed,
            `UNCOMPARED` if the peer did.
        reason: Why there is no new ratio; None if there is one.
    """

    subject: str
    peer: str
    cell: Cell
    figure: str
    old: Ratio
    new: Ratio | None
    verdict: str
    reason: str | None = None

    @property
    def failed(self) -> bool:
        """Whether it counts as a regression."""
        return self.verdict in (FELL, GONE)


@dataclass(frozen=True)
class Check:
    """The result of a check.

    Attributes:
        standings: Every ratio that both reports could have.
        conditions: What else differs between the reports.
        left: Published ratios that the later run did not set out to measure: by cell, how many.
    """

    standings: list[Standing]
    conditions: list[str]
    left: dict[str, int]

    @property
    def failed(self) -> list[Standing]:
        """Returns the ratios that fell or are gone."""
        return [s for s in self.standings if s.failed]


def _latency(ours: Record, peer: Record, slack: float) -> Ratio | None:
    first, second = ours.latency, peer.latency
    return _of_samples(first.samples_s, second.samples_s) if first and second else None


def _memory(ours: Record, peer: Record, slack: float) -> Ratio | None:
    if not (ours.memory and peer.memory):
        return None
    value = peer.memory.peak_bytes / ours.memory.peak_bytes
    return Ratio(value, value / (1 + slack), value * (1 + slack))


def _corpus(ours: Record, peer: Record, slack: float) -> Ratio | None:
    first, second = ours.throughput, peer.throughput
    return _of_samples(first.chunks_s, second.chunks_s) if first and second else None


def _of_samples(ours: Sequence[float], peer: Sequence[float]) -> Ratio | None:
    return median_ratio(ours, peer) if min(len(ours), len(peer)) >= LEAST_SAMPLES else None


FIGURES: dict[str, Callable[[Record, Record, float], Ratio | None]] = {
    "latency": _latency,
    "peak memory": _memory,
    "corpus, per call": _corpus,
}
"""The peer's figure divided by ours, so that a fall is a loss. Memory has one reading a run and no interval;
the published one gets the width of the threshold."""


def check_ratios(published: Sequence[Record], later: Sequence[Record], *, slack: float) -> Check:
    """Compares the ratios of a later run with the published ones.

    Only what the later run set out to measure is compared: its files, its peers, its cells. The others are
    counted.

    Args:
        published: The records of the published report.
        later: The records of the later run.
        slack: By which share a figure without an interval may fall.

    Raises:
        InputError: If the published report has no ratio, or the later one none of its ratios.
    """
    old = _pairs(published)
    new = {(subject, peer, cell): pair for subject, peer, cell, *pair in _pairs(later)}
    standings, left, found = [], Counter[str](), False
    for subject, peer, cell, ours, other in old:
        for figure, ratio in FIGURES.items():
            if ours.status != OK or other.status != OK or (before := ratio(ours, other, slack)) is None:
                continue
            found = True
            if (subject, peer, cell) in new:
                now = new[subject, peer, cell]
                standings.append(_judged(subject, peer, cell, figure, before, now))
            else:
                left[f"{subject}, {_where(cell)}"] += 1
    if not found:
        raise InputError(
            "the published report holds no ratio",
            got=f"{len(published)} records",
            expected=f"this project and a peer in one cell, with at least {LEAST_SAMPLES} samples",
        )
    if not standings:
        raise InputError(
            "the two reports have no ratio in common",
            got=_named(_pairs(later)),
            expected=_named(old),
            fix="measure the same files, peers, lengths, threads and batches",
        )
    return Check(standings, conditions(published, later), dict(left))


def to_text(check: Check) -> str:
    """Returns the check as a table, with what fell repeated below it."""
    lines = [
        f"ratio peer/ours with its {CONFIDENCE:.0%} interval, published and now; "
        "a ratio fell if its whole interval is below the published one",
        *(f"not the same in both: {line}" for line in check.conditions),
        "",
    ]
    width = max(len(s.peer) for s in check.standings)
    subject = None
    for s in check.standings:
        if s.subject != subject:
            subject = s.subject
            lines.append(subject)
        lines.append(f"  {s.peer:<{width}}  {_line(s)}")
    lines += ["", *_not_measured(check)]
    count = len(check.standings)
    if unsure := sum(s.verdict == UNSURE for s in check.standings):
        lines.append(f"{unsure} of {count} ratios unsure: raise --repetitions")
    lines += [f"{s.verdict}: {s.subject} beside {s.peer}, {_figures(s)}" for s in check.failed]
    bad, missing = len(check.failed), sum(s.verdict == UNCOMPARED for s in check.standings)
    moved = any(line.startswith("machine:") for line in check.conditions)
    if moved and any(s.verdict == FELL for s in check.failed):
        lines.append("the machine is not the one of the published report, which moves ratios too")
    result = f"{bad} of {count} ratios fell" if bad else "no ratio fell"
    lines.append(f"{result}; {count - missing} of {count} compared" if missing else result)
    return "\n".join([*lines, ""])


def to_json(check: Check) -> str:
    """Returns the check as JSON."""
    content = {
        "passed": not check.failed,
        "conditions": check.conditions,
        "left": check.left,
        "ratios": [asdict(standing) for standing in check.standings],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _pairs(records: Sequence[Record]) -> list[tuple[str, str, Cell, Record, Record]]:
    """Returns each file of ours with each peer in its cell."""
    return [
        (ours.label, peer.engine.name, ours.cell, ours, peer)
        for ours in records
        if ours.engine.name == OURS
        for peer in records
        if peer.engine.name != OURS and (peer.kind, peer.cell) == (ours.kind, ours.cell)
    ]


def _judged(subject: str, peer: str, cell: Cell, figure: str, old: Ratio, pair: Sequence[Record]) -> Standing:
    ours, other = pair
    reason = None
    new = FIGURES[figure](ours, other, 0.0) if ours.status == other.status == OK else None
    if new is None:
        verdict = GONE if ours.status != OK else UNCOMPARED
        reason = ours.error or other.error or f"fewer than {LEAST_SAMPLES} samples"
    elif new.high < old.low:
        verdict = FELL
    elif new.value < old.low:
        verdict = UNSURE
    else:
        verdict = BETTER if new.low > old.high else HELD
    return Standing(subject, peer, cell, figure, old, new, verdict, reason)


def _not_measured(check: Check) -> list[str]:
    """Returns a line for each reason why a published ratio has no later one."""
    reasons: dict[str, list[Standing]] = {}
    for s in check.standings:
        if s.reason:
            reasons.setdefault(s.reason.replace("\n", "; "), []).append(s)
    lines = []
    for reason, found in reasons.items():
        names = ", ".join(dict.fromkeys(s.peer for s in found))
        lines.append(f"not measured: {len(found)} ratios beside {names}: {reason}")
    hint = " (--corpus measures them)"
    return lines + [
        f"not asked for: {count} ratios of {where}{hint if ', corpus,' in where else ''}"
        for where, count in check.left.items()
    ]


def _line(s: Standing) -> str:
    return f"{_figures(s)}  {s.verdict}"


def _figures(s: Standing) -> str:
    return f"{_where(s.cell)}, {s.figure}: {_shown(s.old)} → {_shown(s.new) if s.new else '-'}"


def _where(cell: Cell) -> str:
    length = f"{cell.length} tokens" if cell.length else "corpus"
    return f"{length}, {cell.threads} threads, batch {cell.batch}"


def _shown(ratio: Ratio) -> str:
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def _named(pairs: Sequence[tuple[str, str, Cell, Record, Record]]) -> str:
    names = [f"{s} beside {p}, {c.length} tokens, {c.threads} threads" for s, p, c, *_ in pairs[:4]]
    return "; ".join(names) or "no file of this project beside a peer"
