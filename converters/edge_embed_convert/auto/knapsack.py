"""Chooses a scheme for each part of a model, from each part's loss and size.

The loss of a mixture is close to the sum of the losses of its parts, because rounding errors are small and
independent. So the best mixture for every size is a multiple-choice knapsack, solved exactly by dynamic
programming over sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_embed_convert.recipes.grammar import GROUPS, Recipe, Scheme

UNIT = 2048
"""The unit of the search's sizes, in bytes."""


@dataclass(frozen=True)
class Choice:
    """One way to store one part.

    Attributes:
        scheme: How.
        size: Bytes.
        loss: 1 minus the mean cosine if only this part is stored in this way.
    """

    scheme: Scheme
    size: int
    loss: float


Mixture = dict[str, Scheme]
"""A scheme for each part, by the part's name."""


@dataclass(frozen=True)
class Front:
    """The best mixtures of all sizes.

    Attributes:
        parts: The parts, and what may be chosen for each.
        least: ``least[n]`` is the lowest loss of a mixture that is ``n`` units larger than the smallest.
        smallest: Bytes of the smallest mixture.
    """

    parts: Mapping[str, Sequence[Choice]]
    least: npt.NDArray[np.float64]
    smallest: int
    _picks: Sequence[npt.NDArray[np.int32]]

    def at(self, size: int) -> Mixture | None:
        """Returns the best mixture of at most this size in bytes, or None."""
        units = (size - self.smallest) // UNIT
        if units < 0:
            return None
        return self._mixture(min(units, len(self.least) - 1))

    def reaching(self, loss: float) -> Mixture | None:
        """Returns the smallest mixture with at most so much loss; None if there is none."""
        enough = np.flatnonzero(self.least <= loss)
        return self._mixture(int(enough[0])) if len(enough) else None

    def size(self, mixture: Mixture) -> int:
        """Returns the bytes of a mixture's weights."""
        return sum(self._choice(part, scheme).size for part, scheme in mixture.items())

    def loss(self, mixture: Mixture) -> float:
        """Returns the predicted loss of a mixture."""
        return sum(self._choice(part, scheme).loss for part, scheme in mixture.items())

    def _choice(self, part: str, scheme: Scheme) -> Choice:
        return next(choice for choice in self.parts[part] if choice.scheme == scheme)

    def _mixture(self, units: int) -> Mixture:
        # The first size with this loss: no byte is spent for nothing.
        units = int(np.flatnonzero(self.least[: units + 1] <= self.least[units])[0])
        found: Mixture = {}
        for (part, choices), picks in reversed(list(zip(self.parts.items(), self._picks, strict=True))):
            choice = choices[picks[units]]
            found[part] = choice.scheme
            units -= _units(choice, choices)
        return {part: found[part] for part in self.parts}


def solve(parts: Mapping[str, Sequence[Choice]]) -> Front:
    """Returns the best mixture for every size.

    Args:
        parts: What may be chosen for each part. A part of several identical choices takes the first.
    """
    total = sum(max(_units(choice, choices) for choice in choices) for choices in parts.values())
    least = np.zeros(total + 1)
    picks = []
    for choices in parts.values():
        tried = np.full((len(choices), total + 1), np.inf)
        for row, choice in enumerate(choices):
            extra = _units(choice, choices)
            tried[row, extra:] = least[: total + 1 - extra] + choice.loss
        picks.append(tried.argmin(axis=0).astype(np.int32))
        least = tried.min(axis=0)
    smallest = sum(min(choice.size for choice in choices) for choices in parts.values())
    return Front(parts, least, smallest, picks)


def _units(choice: Choice, choices: Sequence[Choice]) -> int:
    """Returns what a choice takes above the part's smallest, in whole units."""
    return -(-(choice.size - min(other.size for other in choices)) // UNIT)


def recipe_of(schemes: Mapping[str, tuple[str, Scheme]], table: Scheme, name: str) -> Recipe:
    """Returns the recipe that says what a mixture says, with as few exceptions as possible.

    Args:
        schemes: Each projection's group and scheme, by its place.
        table: The embedding table's scheme.
        name: What to call it.
    """
    groups: dict[str, Scheme] = {}
    for group in list(GROUPS.values())[1:]:
        chosen = [scheme for owner, scheme in schemes.values() if owner == group]
        # A model without Dense modules has no projection to store; any scheme says so.
        groups[group] = max(dict.fromkeys(chosen), key=chosen.count) if chosen else Scheme(8)
    differing = tuple(
        (place, scheme) for place, (group, scheme) in schemes.items() if scheme != groups[group]
    )
    return Recipe(name, table, **groups, overrides=differing)
