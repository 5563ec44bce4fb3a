"""Orders made of orders: reciprocal rank fusion, and diversity by maximal marginal relevance."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np

from edge_embed.retrieval.store.vectors import Floats

RANK_CONSTANT = 60
"""The constant of Cormack, Clarke and Büttcher's reciprocal rank fusion (SIGIR 2009)."""

Key = TypeVar("Key", bound=Hashable)


def reciprocal_rank(orders: Sequence[Sequence[Key]], weights: Sequence[float]) -> dict[Key, float]:
    """Returns the fused score of each key: the sum over orders of ``weight / (60 + rank)``, ranks from 1."""
    scores: dict[Key, float] = {}
    for order, weight in zip(orders, weights, strict=True):
        for rank, key in enumerate(order, start=1):
            scores[key] = scores.get(key, 0.0) + weight / (RANK_CONSTANT + rank)
    return scores


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
