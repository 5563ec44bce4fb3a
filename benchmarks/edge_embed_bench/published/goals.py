"""Goals beside other engines: ratios of latency, memory and throughput, judged on the records of one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edge_embed_bench.records.record import CORPUS, OK, OURS, Record
from edge_embed_bench.records.stats import median_ratio
from edge_embed_bench.reports.columns import UNKNOWN

LENGTHS = (16, 32, 64, 128, 256, 512, 1024, 2048)

MET, MISSED, UNDECIDED = "met", "not met", "not measured"


@dataclass(frozen=True)
class Goal:
    """A ratio, the figure of the peer divided by ours, that must be reached.

    Attributes:
        peer: Its name in records.
        figure: A key of `FIGURES`.
        least: The ratio by length; at length 0 the goal is on a corpus.
    """

    peer: str
    figure: str
    least: Mapping[int, float]


@dataclass(frozen=True)
class Limit:
    """The most bytes that the process of a recipe may use at a length."""

    recipe: str
    length: int
    bytes: int


@dataclass(frozen=True)
class Outcome:
    """A goal at one length and the measured figures.

    Attributes:
        against: The peer, or the recipe that a limit is on.
        tokens: The length, 0 on a corpus.
        measured: The measured figure by recipe, as text.
        verdict: `MET` if one recipe of ours reaches it, `MISSED`, or `UNDECIDED` if the peer gave no figure.
    """

    against: str
    figure: str
    tokens: int
    goal: str
    measured: dict[str, str]
    verdict: str


TIMES = "\u00d7"

LATENCY, MEMORY, SPEED = "median latency", "peak memory", "documents/s"

GOALS = (
    Goal("litert-torch", LATENCY, {16: 7.0, 64: 3.0, 256: 1.1, 1024: 1.3, 2048: 1.7}),
    Goal("onnxruntime-int8", LATENCY, dict.fromkeys(LENGTHS, 1.3)),
    Goal("openvino", LATENCY, {16: 2.0, 64: 1.3, 256: 1.0}),
    Goal("openvino", MEMORY, dict.fromkeys(LENGTHS, 5.0)),
    Goal("llama.cpp-q8_0", LATENCY, dict.fromkeys(LENGTHS, 3.0)),
    Goal("llama.cpp-q4_0", LATENCY, dict.fromkeys(LENGTHS, 3.0)),
    Goal("sentence-transformers-bf16", LATENCY, dict.fromkeys([n for n in LENGTHS if n <= 512], 2.0)),
)
"""For EmbeddingGemma-300M's shape, two threads, batch 1, `int8` or `mixed`."""

LIMITS = (Limit("mixed", 16, 150_000_000), Limit("mixed", 512, 260_000_000))
"""Of the same, with every bucket in the file."""

CORPUS_GOALS = (Goal("onnxruntime-int8", SPEED, {0: 1.5}),)
"""For all-MiniLM-L6-v2's shape, `int8`."""


def _latency(ours: Record, peer: Record) -> tuple[float, str] | None:
    if not (ours.latency and peer.latency):
        return None
    ratio = median_ratio(ours.latency.samples_s, peer.latency.samples_s)
    return ratio.value, f"{ratio.value:.2f}{TIMES} [{ratio.low:.2f}, {ratio.high:.2f}]"


def _memory(ours: Record, peer: Record) -> tuple[float, str] | None:
    if not (ours.memory and peer.memory):
        return None
    value = peer.memory.peak_bytes / ours.memory.peak_bytes
    return value, f"{value:.2f}{TIMES}"


def _speed(ours: Record, peer: Record) -> tuple[float, str] | None:
    if not (ours.throughput and peer.throughput):
        return None
    value = ours.throughput.documents_per_s / peer.throughput.documents_per_s
    return value, f"{value:.2f}{TIMES}"


FIGURES: dict[str, Callable[[Record, Record], tuple[float, str] | None]] = {
    LATENCY: _latency,
    MEMORY: _memory,
    SPEED: _speed,
}
"""How many times better ours is than the peer's, with a 95 % interval where there are samples."""


def assess(records: Sequence[Record], goals: Sequence[Goal], limits: Sequence[Limit] = ()) -> list[Outcome]:
    """Judges every goal at every measured length."""
    outcomes = []
    for goal in goals:
        for length, least in goal.least.items():
            cell = [r for r in records if r.cell.length == length and (length > 0 or r.kind == CORPUS)]
            if cell:
                outcomes.append(_judge(cell, goal, length, least))
    for limit in limits:
        for record in records:
            if record.engine.name == OURS and (record.model.recipe, record.cell.length) == (
                limit.recipe,
                limit.length,
            ):
                outcomes.append(_within(record, limit))
    return outcomes


def to_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """Returns the outcomes as a Markdown table."""
    recipes = list(dict.fromkeys(recipe for outcome in outcomes for recipe in outcome.measured))
    head = ["against", "figure", "tokens", "goal", *recipes, "verdict"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for o in outcomes:
        shown = [o.measured.get(recipe, UNKNOWN) for recipe in recipes]
        tokens = str(o.tokens) if o.tokens else "corpus"
        lines.append(f"| {' | '.join([o.against, o.figure, tokens, o.goal, *shown, o.verdict])} |")
    return lines


def _judge(cell: Sequence[Record], goal: Goal, length: int, least: float) -> Outcome:
    peer = next((r for r in cell if r.engine.name == goal.peer and r.status == OK), None)
    measured, values = {}, []
    for ours in cell:
        if ours.engine.name != OURS:
            continue
        found = FIGURES[goal.figure](ours, peer) if peer and ours.status == OK else None
        measured[ours.model.recipe] = found[1] if found else UNKNOWN
        values += [found[0]] if found else []
    verdict = UNDECIDED if peer is None else MET if values and max(values) >= least else MISSED
    return Outcome(goal.peer, goal.figure, length, f"≥ {least:g}{TIMES}", measured, verdict)


def _within(record: Record, limit: Limit) -> Outcome:
    peak = record.memory.peak_bytes if record.memory else None
    shown = f"{peak / 1e6:.0f} MB" if peak else UNKNOWN
    verdict = MET if peak and peak <= limit.bytes else MISSED
    goal = f"≤ {limit.bytes / 1e6:.0f} MB"
    return Outcome("a limit", MEMORY, limit.length, goal, {limit.recipe: shown}, verdict)
