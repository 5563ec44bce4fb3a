"""What a target is, and which there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edge_embed_bench.matrix import Model
from edge_embed_bench.record import OURS, Cell, Record, Run


@dataclass(frozen=True)
class Subject:
    """One engine over one file.

    Attributes:
        model: The file; for a peer, the file whose weights and token ids it shares.
        engine: The engine's name in records.
        module: Where it is, `module:Class`.
        artifact: A peer's own form of the weights.
        tokenizes: Whether it takes texts.
        caches: Whether it keeps packed weights or the like, so that its first load differs from later ones.
        least_cosine: What its vectors must reach beside the fp32 source's.
        problem: Why it cannot be measured at all, if so.
    """

    model: Model
    engine: str = OURS
    module: str = "edge_embed_bench.ours:EdgeEmbed"
    artifact: Path | None = None
    tokenizes: bool = True
    caches: bool = True
    least_cosine: float = 0.0
    problem: str | None = None

    @property
    def label(self) -> str:
        """The subject as other records name it."""
        if self.engine == OURS:
            return f"{self.model.facts.name}.{self.model.facts.recipe}"
        return self.engine


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Attributes:
        run: What every record says of the run.
        loads: Warm loads, each in a process of its own.
        turn: Samples that one subject takes before the next one has its turn.
        timeout: Seconds after which a measuring process counts as hung.
        reference: Vectors of the fp32 source by file hash and length, for the ids of `ids.batch`, at least
            as many as the largest batch.
    """

    run: Run
    loads: int = 3
    turn: int = 3
    timeout: float = 900.0
    reference: dict[tuple[str, int], list[list[float]]] = field(default_factory=dict)


class Target(Protocol):
    """Where cells are measured: this machine, a device behind a cable, a browser."""

    accelerators: Sequence[str]
    """What this target can run on; a matrix may name no other."""

    def measure(self, subjects: Sequence[Subject], cell: Cell, plan: Plan) -> Iterator[Record]:
        """Measures all subjects in one cell, by turns where the target can, and yields a record of each.

        What fails becomes a failed record; only a user's interrupt may stop the others.
        """
        ...

    def index(self, subject: Subject, cell: Cell, plan: Plan, corpus: Path, texts: Sequence[str]) -> Record:
        """Embeds a corpus and returns its record, failed if it failed."""
        ...


TARGETS: dict[str, str] = {"local": "edge_embed_bench.local:Local"}
"""Known targets, `module:Class`, imported when they are used."""
