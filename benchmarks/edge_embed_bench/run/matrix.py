"""The matrix of a run: every option is a list, and every combination is a cell."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from edge_embed.errors import InputError
from edge_embed_bench.choices import unique
from edge_embed_bench.records.model import Model
from edge_embed_bench.records.record import Cell

T = TypeVar("T")


@dataclass(frozen=True)
class Axes:
    """The lists of a matrix, without files and engines."""

    targets: Sequence[str]
    accelerators: Sequence[str]
    lengths: Sequence[int]
    threads: Sequence[int]
    batches: Sequence[int]

    def cells(self) -> Iterator[Cell]:
        """Yields every combination. The target changes last, the length first."""
        for target, accelerator, threads, batch, length in itertools.product(
            self.targets, self.accelerators, self.threads, self.batches, self.lengths
        ):
            yield Cell(target, accelerator, length, threads, batch)


def check_lengths(models: Sequence[Model], lengths: Sequence[int] | None) -> list[int]:
    """Returns the lengths to measure: those given, or every length that all files have a bucket for.

    Raises:
        InputError: If one is beyond a file's maximum, or leaves no room for the special tokens.
    """
    if lengths is None:
        common = set.intersection(*(set(m.manifest.buckets) for m in models))
        limit = min(m.manifest.max_tokens for m in models)
        lengths = sorted(length for length in common if length <= limit)
        if not lengths:
            raise InputError("the files have no bucket in common", fix="choose lengths with --lengths")
    for model in models:
        record, most = model.manifest.tokenizer, model.manifest.max_tokens
        least = len(record.prefix_ids) + len(record.suffix_ids) + 1
        for length in lengths:
            if not least <= length <= most:
                raise InputError(
                    f"{model.path.name} cannot be measured at that length",
                    got=f"{length} tokens",
                    expected=f"{least} to {most}",
                    fix="choose other --lengths",
                )
    return unique(lengths)
