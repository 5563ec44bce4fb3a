"""Parts: groups of weights that a search stores alike, how each may be stored, and what that loses.

In a small model a part is what one layer computes from one tensor: queries, keys and values; attention's
output; the first and the second step of the feed-forward. In a large model a part is all attention or all
feed-forward of a few layers. The embedding table is one part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edge_embed_convert.auto.budget import Score
from edge_embed_convert.auto.knapsack import Choice
from edge_embed_convert.auto.simulate import Simulation
from edge_embed_convert.check import stored_bytes
from edge_embed_convert.graph.rewrite import EmbeddingModel
from edge_embed_convert.graph.weights import TABLE
from edge_embed_convert.recipes.calibrate.rounding import Moments
from edge_embed_convert.recipes.grammar import CALIBRATED, MIN_MAX, Scheme
from edge_embed_convert.recipes.placement import group_of, place_of, projection_at, projections

MOST_PARTS = 26
"""The number of parts is kept below this, because each takes time to measure."""

STORAGES = ("16", "8", "4b32", "4")
"""The schemes that are tried for projections and table, finest first."""

TRIED = {"8": (MIN_MAX, CALIBRATED), "4b32": ("octav", CALIBRATED), "4": ("octav", CALIBRATED)}
"""Algorithms that are compared for a projection; the table has no inputs and takes the first."""


@dataclass(frozen=True)
class Part:
    """Weights that are stored alike.

    Attributes:
        name: For tables and the journal.
        group: Its recipe group.
        paths: Its projections' paths in the model, or `TABLE`.
    """

    name: str
    group: str
    paths: tuple[str, ...]


def parts_of(model: EmbeddingModel) -> list[Part]:
    """Returns the parts of a model: the table, then the projections in order."""
    paths = list(projections(model))
    layered = [path for path in paths if ".layers." in path]
    layers = 1 + max((_layer(path) for path in layered), default=-1)
    together = -(-2 * layers // MOST_PARTS) if 4 * layers > MOST_PARTS else 0

    def key(path: str) -> str:
        if path not in layered:
            return place_of(path)
        if not together:
            return f"{_layer(path)}.{projection_at(model, path).part}"
        first = _layer(path) // together * together
        last = min(first + together, layers) - 1
        return f"{first}{f'-{last}' if last > first else ''}.{group_of(model, path)}"

    found: dict[str, list[str]] = {}
    for path in paths:
        found.setdefault(key(path), []).append(path)
    table = Part(TABLE, "embedding", (TABLE,))
    return [table, *(Part(name, group_of(model, every[0]), tuple(every)) for name, every in found.items())]


def _layer(path: str) -> int:
    return int(path.split(".")[-2])


class Sensitivity:
    """Measures what each way to store a part loses.

    Args:
        simulation: Runs trials.
        moments: Second moments of what projections read, over the measuring texts.
        remember: Returns a trial's score by its name, from a journal or by running it.
    """

    def __init__(
        self,
        simulation: Simulation,
        moments: Moments,
        remember: Callable[[str, Callable[[], Score]], Score],
    ) -> None:
        self._simulation, self._moments, self._remember = simulation, moments, remember

    def choices(self, part: Part, advance: Callable[[str], None]) -> list[Choice]:
        """Returns every way to store a part with its bytes and its loss, coarsest first.

        Args:
            part: The part.
            advance: Called before each trial with its name.
        """
        found = []
        for storage in STORAGES:
            if not self._divides(part, storage):
                continue
            scheme = self.scheme(part, storage)
            size = sum(stored_bytes(self._simulation.weight(path).shape, scheme) for path in part.paths)
            found.append(Choice(scheme, size, self._loss(part, scheme, advance)))
        return sorted(found, key=lambda choice: choice.size)

    def _loss(self, part: Part, scheme: Scheme, advance: Callable[[str], None]) -> float:
        if not scheme.integer:
            return 0.0  # float16 throughout gives a mean cosine of 1.00000 (docs/recipes.md)
        name = f"{part.name}={scheme}"
        advance(name)
        trial = dict.fromkeys(part.paths, scheme)
        score = self._remember(name, lambda: self._simulation.score(trial))
        return max(1 - score.cosine, 0.0)

    def scheme(self, part: Part, storage: str) -> Scheme:
        """Returns the scheme with the least error on texts that it was not fitted to.

        Judged by the error of the outputs of the part's first projection, over the measuring texts.
        """
        plain = Scheme.parse(storage)
        if storage not in TRIED:
            return plain
        first, *_ = algorithms = TRIED[storage]
        if part.paths == (TABLE,):
            return Scheme(plain.bits, plain.block, first)
        schemes = [Scheme(plain.bits, plain.block, algorithm) for algorithm in algorithms]
        errors = [self._error(part.paths[0], scheme) for scheme in schemes]
        return schemes[errors.index(min(errors))]

    def _error(self, path: str, scheme: Scheme) -> float:
        lost: Tensor = self._simulation.stored(path, scheme) - self._simulation.weight(path)
        with torch.inference_mode():
            return float(((lost @ self._moments[path]) * lost).sum())

    def _divides(self, part: Part, storage: str) -> bool:
        block = Scheme.parse(storage).block
        return not block or all(self._simulation.weight(p).shape[1] % block == 0 for p in part.paths)


def spread(parts: Sequence[Part], mixture: Mapping[str, Scheme]) -> dict[str, Scheme]:
    """Returns the scheme of each path, for a mixture that names the scheme of each part."""
    return {path: mixture[part.name] for part in parts for path in part.paths}


def placed(parts: Sequence[Part], mixture: Mapping[str, Scheme]) -> dict[str, tuple[str, Scheme]]:
    """Returns each projection's group and scheme by its place in the grammar."""
    return {
        place_of(path): (part.group, mixture[part.name])
        for part in parts
        if part.name != TABLE
        for path in part.paths
    }
