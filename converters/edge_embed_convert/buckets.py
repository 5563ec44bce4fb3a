"""Buckets: the input lengths that a file has a signature for."""

from __future__ import annotations

from collections.abc import Sequence

from edge_embed.errors import CheckpointError

SMALLEST_BUCKET = 16


def buckets_for(max_tokens: int, asked: Sequence[int] | None = None) -> list[int]:
    """Returns the buckets of a model: the user's, checked, or the default ones.

    Raises:
        CheckpointError: If the user's do not fit the model.
    """
    return default_buckets(max_tokens) if asked is None else check_buckets(asked, max_tokens)


def default_buckets(max_tokens: int) -> list[int]:
    """Returns the powers of two from 16 up, and the maximum itself.

    >>> default_buckets(100)
    [16, 32, 64, 100]
    """
    lengths = [SMALLEST_BUCKET]
    while lengths[-1] < max_tokens:
        lengths.append(lengths[-1] * 2)
    return [*(n for n in lengths if n < max_tokens), max_tokens]


def check_buckets(buckets: Sequence[int], max_tokens: int) -> list[int]:
    """Returns a user's buckets in ascending order.

    Raises:
        CheckpointError: If there are none, one is there twice, or the largest is not the model's maximum.
    """
    ordered = sorted(buckets)
    if not ordered or ordered[0] < 4 or len(set(ordered)) < len(ordered) or ordered[-1] != max_tokens:
        raise CheckpointError(
            "the list of buckets does not fit the model",
            got=", ".join(map(str, buckets)) or "nothing",
            expected=f"different lengths from 4 up, the largest {max_tokens}",
            fix="end the list with the model's maximum, or lower that with --max-tokens",
        )
    return ordered
