"""Batches: each from one data set, of texts of about one length, in proportions that the recipe gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sentence_transformers.base.sampler import MultiDatasetDefaultBatchSampler

BUCKETED = 50
"""Batches that are drawn together and sorted by length. More make texts of a batch more alike in length,
and batches less random."""


def proportions(rows: Sequence[int], temperature: float = 1.0) -> list[float]:
    """Returns the share of batches of each data set: its size to the power of 1 / temperature, normalized.

    Args:
        rows: The sizes.
        temperature: 1 draws in proportion to size; larger ones draw more evenly.
    """
    weights = np.asarray(rows, np.float64) ** (1.0 / temperature)
    shares: list[float] = (weights / weights.sum()).tolist()
    return shares


def dirichlet_mixtures(
    base: Sequence[float], count: int, *, concentration: float, seed: int
) -> list[list[float]]:
    """Draws mixtures around a base mixture.

    Args:
        base: Shares that add up to 1.
        count: How many.
        concentration: The larger, the closer to the base.
        seed: Of the draws.
    """
    generator = np.random.default_rng(seed)
    drawn: list[list[float]] = generator.dirichlet(np.asarray(base) * concentration, count).tolist()
    return drawn


class MixtureBatchSampler(MultiDatasetDefaultBatchSampler):  # type: ignore[misc]
    """Draws a fixed number of full batches.

    What a batch holds depends on the seed and on its number alone, so that a resumed run sees the same.

    Args:
        dataset: All data sets, concatenated.
        batch_samplers: The trainer's own; only their batch size is used.
        generator: The trainer's; not used.
        seed: Of the draws.
        shares: Share of batches of each data set.
        lengths: Length of each row, by data set.
        steps: Number of batches.
    """

    def __init__(
        self,
        dataset: Any,
        batch_samplers: Sequence[Any],
        generator: Any = None,
        seed: int = 0,
        *,
        shares: Sequence[float],
        lengths: Sequence[npt.NDArray[np.int32]],
        steps: int,
    ) -> None:
        super().__init__(dataset, batch_samplers=list(batch_samplers), generator=generator, seed=seed)
        self.shares, self.lengths, self.steps = list(shares), list(lengths), steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        choices = np.random.default_rng([self.seed, 0]).choice(
            len(self.shares), self.steps, p=np.asarray(self.shares) / sum(self.shares)
        )
        offsets = np.cumsum([0, *map(len, self.lengths)])
        streams = [self._stream(place) for place in range(len(self.lengths))]
        for place in choices:
            yield (next(streams[place]) + offsets[place]).tolist()

    def _stream(self, place: int) -> Iterator[npt.NDArray[np.int64]]:
        """Yields batches of one data set for ever; every pass has every row, in another order."""
        generator = np.random.default_rng([self.seed, 1 + place])
        lengths, size = self.lengths[place], self.batch_size
        rows = np.empty(0, np.int64)
        while True:
            while len(rows) < size:  # what is left of a pass begins the next
                rows = np.concatenate([rows, generator.permutation(len(lengths))])
            chunk, rows = rows[: BUCKETED * size], rows[BUCKETED * size :]
            whole = len(chunk) // size * size
            rows = np.concatenate([chunk[whole:], rows])
            ordered = chunk[:whole][np.argsort(lengths[chunk[:whole]], kind="stable")]
            yield from generator.permutation(ordered.reshape(-1, size))
