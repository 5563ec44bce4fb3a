"""Orders made of scores: the sum of cosine and BM25, and diversity by maximal marginal relevance."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np

from edge_embed.retrieval.store.vectors import Floats

Key = TypeVar("Key", bound=Hashable)

_LEAST_DEVIATION = 1e-6
"""Scores that differ by less are equal but for rounding."""

_DECIMALS = 4
"""Decimals of a fused score."""


def standardized_sum(
    cosines: Mapping[Key, float], words: Mapping[Key, float], weights: tuple[float, float]
) -> dict[Key, float]:
    """Returns the fused score of each key: the weighted sum of its cosine and its BM25, both standardized.

    A standardized score is the score less the mean of all keys, divided by their standard deviation. BM25 has
    another size for each query, and the cosines of one model lie between 0 and 0.7, those of another between
    0.75 and 0.9. Standardized, both can be added up, and unlike ranks they keep how far a text stands out.

    Args:
        cosines: The cosine of each key.
        words: BM25 of the keys that the words have found; of the others it is 0.
        weights: The weights of the cosine and of BM25.
    """
    of_cosine = _standardized(cosines)
    of_words = _standardized({key: words.get(key, 0.0) for key in cosines})
    fused = {key: weights[0] * of_cosine[key] + weights[1] * of_words[key] for key in cosines}
    # The last bits of a cosine depend on which others are computed with it: equal texts get equal scores.
    return {key: round(score, _DECIMALS) for key, score in fused.items()}


def _standardized(scores: Mapping[Key, float]) -> dict[Key, float]:
    """Returns the scores less their mean and divided by their standard deviation; zeros if all are equal."""
    count = max(len(scores), 1)
    mean = math.fsum(scores.values()) / count
    deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scores.values()) / count)
    if deviation < _LEAST_DEVIATION:
        return dict.fromkeys(scores, 0.0)
    return {key: (score - mean) / deviation for key, score in scores.items()}


def diversify(relevance: Floats, rows: Floats, count: int, diversity: float) -> list[int]:
    """Returns which items to take, in order, so that they are relevant and unlike each other.

    Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): each next item has the greatest
    ``(1 - diversity) * relevance - diversity * similarity`` to the most similar item taken before.

    Args:
        relevance: Relevance of each item, ``(n,)``, in the range of a cosine.
        rows: Vectors of the items, ``(n, d)``.
        count: How many to take.
        diversity: 0 for relevance alone, 1 for difference alone.
    """
    chosen: list[int] = []
    nearest = np.zeros(len(relevance), np.float32)
    left = np.ones(len(relevance), bool)
    for _ in range(min(count, len(relevance))):
        value = (1 - diversity) * relevance - diversity * nearest
        value[~left] = -np.inf
        index = int(np.argmax(value))
        chosen.append(index)
        left[index] = False
        similar = rows @ rows[index]
        nearest = np.maximum(nearest, similar) if len(chosen) > 1 else similar
    return chosen
