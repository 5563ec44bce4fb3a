"""A run: the matrix over the targets, record by record."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_embed.errors import InputError
from edge_embed_bench.matrix import Axes, choose
from edge_embed_bench.record import Cell, Record
from edge_embed_bench.target import TARGETS, Plan, Subject, Target


def open_targets(axes: Axes) -> dict[str, Target]:
    """Returns the targets of a matrix by name.

    Raises:
        InputError: If one is unknown, or cannot run on an accelerator of the matrix.
    """
    choose("target", axes.targets, TARGETS)
    targets: dict[str, Target] = {}
    for name in axes.targets:
        module, _, attribute = TARGETS[name].partition(":")
        target: Target = getattr(importlib.import_module(module), attribute)()
        choose(f"accelerator of the target {name}", axes.accelerators, {a: a for a in target.accelerators})
        targets[name] = target
    return targets


def measure(
    targets: dict[str, Target], axes: Axes, subjects: Sequence[Subject], plan: Plan
) -> Iterator[Record]:
    """Yields a record per subject and cell."""
    for cell in axes.cells():
        yield from targets[cell.target].measure(subjects, cell, plan)


def index(
    targets: dict[str, Target], axes: Axes, subjects: Sequence[Subject], plan: Plan, corpus: Path,
    texts: Sequence[str],
) -> Iterator[Record]:  # fmt: skip
    """Yields a record per subject and combination of target, accelerator, threads and batch."""
    if not texts:
        raise InputError(f"{corpus} holds no documents")
    for cell in axes.cells():
        for subject in subjects:
            free = Cell(cell.target, cell.accelerator, 0, cell.threads, cell.batch)
            yield targets[cell.target].index(subject, free, plan, corpus, texts)
