"""What a target is, and the list of targets."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edge_embed.errors import InputError
from edge_embed.model_file.file import ModelFile
from edge_embed_bench.errors import TargetError
from edge_embed_bench.records.model import Model
from edge_embed_bench.records.record import OURS, Cell, Record, Run


@dataclass(frozen=True)
class Subject:
    """One engine over one file.

    Attributes:
        model: The file; for a peer, the file whose weights and token ids it shares.
        engine: The engine's name in records.
        module: Where it is, `module:Class`.
        artifact: A peer's own form of the weights.
        tokenizes: Whether it takes texts.
        caches: Whether it keeps packed weights or similar files, which make later loads faster.
        least_cosine: The lowest accepted cosine of its vectors to those of the fp32 source.
        problem: Why it cannot be measured, None if it can.
    """

    model: Model
    engine: str = OURS
    module: str = "edge_embed_bench.worker.own_engine:EdgeEmbed"
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
        run: The part of every record that describes the run.
        loads: Warm loads, each in a process of its own.
        turn: Samples that one subject takes before the next one has its turn.
        timeout: Seconds after which a measuring process counts as hung.
        reference: Vectors of the fp32 source by file hash and length, for the ids of `token_ids.batch`, one
            for each text of the largest batch.
    """

    run: Run
    loads: int = 3
    turn: int = 3
    timeout: float = 900.0
    reference: dict[tuple[str, int], list[list[float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """Settings of the command line for every target.

    Attributes:
        prepare: Whether a target may download what it needs.
        python: An interpreter on the target that has the runtime's dependencies already.
        timeout: Longest duration in seconds of a step of the target, such as an installation or a copy.
        accelerator: The accelerator for the probes of a file; a matrix has its own list.
    """

    prepare: bool = False
    python: str | None = None
    timeout: float = 900.0
    accelerator: str = "cpu"


@dataclass(frozen=True)
class Answer:
    """The answer of a target to one probe: its token ids and the vector."""

    tokens: list[int]
    vector: list[float]


class Target(Protocol):
    """A place where cells are measured: this machine, a device, a browser.

    A target is made with its whole name, such as `ssh://pi@board:2222`, and the settings. Making it checks
    the name and no more; `prepare` is where it first does something.
    """

    accelerators: Sequence[str]
    """The accelerators of this target."""

    def prepare(self) -> None:
        """Makes the target ready.

        Raises:
            EdgeEmbedError: If it cannot be used. Then nothing was changed on it.
        """
        ...

    def measure(self, subjects: Sequence[Subject], cell: Cell, plan: Plan) -> Iterator[Record]:
        """Measures all subjects in one cell, by turns where the target can, and yields a record of each.

        A failure becomes a failed record. Only an interrupt by the user stops the other subjects.
        """
        ...

    def index(self, subject: Subject, cell: Cell, plan: Plan, corpus: Path, texts: Sequence[str]) -> Record:
        """Embeds a corpus and returns its record, failed if it failed."""
        ...

    def rerun(
        self, file: ModelFile, num_threads: int | None, advance: Callable[[int], object]
    ) -> list[Answer]:
        """Answers every probe that a file carries, in their order; calls `advance` with 1 after each.

        Raises:
            EdgeEmbedError: If the target cannot.
        """
        ...

    def close(self) -> None:
        """Ends every process and removes every file of this run. Calling it again does nothing."""
        ...


def require_room(answer: str, size: int, host: str, directory: str, fix: str) -> None:
    """Checks what `df -k` printed. If the output is not understood, the copy itself may fail later.

    Args:
        answer: What it printed.
        size: Bytes that are needed.
        host: What the message calls the machine.
        directory: The directory there.
        fix: What the user can do.

    Raises:
        TargetError: If there is too little room.
    """
    with contextlib.suppress(IndexError, ValueError):
        free = int(answer.splitlines()[-1].split()[3]) * 1024
        if free < size:
            raise TargetError(
                f"no room left on {host}",
                got=f"{free / 1e6:.0f} MB free in {directory}",
                expected=f"{size / 1e6:.0f} MB",
                fix=fix,
            )


@dataclass(frozen=True)
class Entry:
    """A kind of target.

    Attributes:
        target: `module:Class`, imported when it is used.
        form: The form of its names, for messages.
    """

    target: str
    form: str


TARGETS: dict[str, Entry] = {
    "local": Entry("edge_embed_bench.targets.local:Local", "local"),
    "emulated": Entry("edge_embed_bench.targets.emulated.target:Emulated", "emulated:aarch64[/CPU]"),
    "ssh": Entry("edge_embed_bench.targets.ssh.target:Ssh", "ssh://[USER@]HOST[:PORT]"),
    "adb": Entry("edge_embed_bench.targets.adb.target:Adb", "adb[:SERIAL]"),
    "browser": Entry("edge_embed_bench.targets.browser.target:Browser", "browser"),
}
"""Targets by the part of their name before the first colon."""


def open_target(name: str, settings: Settings) -> Target:
    """Returns a target, not yet prepared.

    Raises:
        InputError: If there is none of that name.
    """
    entry = TARGETS.get(name.partition(":")[0])
    if entry is None:
        raise InputError(
            "unknown target", got=repr(name), expected=", ".join(entry.form for entry in TARGETS.values())
        )
    module, _, attribute = entry.target.partition(":")
    target: Target = getattr(importlib.import_module(module), attribute)(name, settings)
    return target
