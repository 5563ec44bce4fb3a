"""Measures a matrix of cells on its targets and yields the records."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from edge_embed.errors import EdgeEmbedError, InputError
from edge_embed_bench.choices import choose
from edge_embed_bench.errors import TargetError
from edge_embed_bench.records.record import Cell, Record
from edge_embed_bench.run.matrix import Axes
from edge_embed_bench.targets.base import Plan, Settings, Subject, Target, open_target


def open_targets(axes: Axes, settings: Settings = Settings()) -> dict[str, Target]:  # noqa: B008 - frozen
    """Returns the targets of a matrix by name, not yet prepared.

    Raises:
        InputError: If one is unknown, or cannot run on an accelerator of the matrix.
    """
    targets = {}
    for name in axes.targets:
        targets[name] = target = open_target(name, settings)
        choose(f"accelerator of the target {name}", axes.accelerators, {a: a for a in target.accelerators})
    return targets


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP end the block as Ctrl-C does: records stay, processes and files go."""
    ends = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        ends = []

    def end(number: int, frame: FrameType | None) -> None:
        sys.stderr.write(f"edge_embed: ended by {signal.Signals(number).name}\n")
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in ends}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def measure(
    targets: dict[str, Target], axes: Axes, subjects: Sequence[Subject], plan: Plan
) -> Iterator[Record]:
    """Yields a record per subject and cell. `_on_each` describes what happens if a target cannot be used."""
    yield from _on_each(targets, axes, lambda target, cell: target.measure(subjects, cell, plan))


def index(
    targets: dict[str, Target],
    axes: Axes,
    subjects: Sequence[Subject],
    plan: Plan,
    corpus: Path,
    texts: Sequence[str],
) -> Iterator[Record]:
    """Yields a record per subject and combination of target, accelerator, threads and batch."""
    if not texts:
        raise InputError(f"{corpus} holds no documents")

    def all_subjects(target: Target, cell: Cell) -> Iterator[Record]:
        free = Cell(cell.target, cell.accelerator, 0, cell.threads, cell.batch)
        for subject in subjects:
            yield target.index(subject, free, plan, corpus, texts)

    yield from _on_each(targets, axes, all_subjects)


def _on_each(
    targets: dict[str, Target], axes: Axes, work: Callable[[Target, Cell], Iterator[Record]]
) -> Iterator[Record]:
    """Prepares one target after the other, measures its cells, and cleans up.

    Raises:
        EdgeEmbedError: At the end, if a target could not be used; the others were measured.
    """
    problems: list[EdgeEmbedError] = []
    for name, target in targets.items():
        try:
            target.prepare()
            for cell in axes.cells():
                if cell.target == name:
                    yield from work(target, cell)
        except EdgeEmbedError as error:
            problems.append(error)
        finally:
            target.close()
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise TargetError(f"{len(problems)} targets could not be used:\n" + "\n".join(map(str, problems)))
