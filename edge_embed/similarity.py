"""The four similarity measures of sentence-transformers, on numpy arrays, and which scores are the greatest.

A greater score is always more similar.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edge_embed.errors import InputError, RuntimeFailure

Floats = npt.NDArray[np.float32]


def unit(vector: Floats) -> Floats:
    """Returns a vector, ``(d,)``, at unit length, computed in float64.

    Raises:
        RuntimeFailure: If it is all zeros.
    """
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    if not norm > 0:
        raise RuntimeFailure("a vector of zeros cannot be normalized", fix="keep more dimensions")
    return (vector / norm).astype(np.float32)


def similarity(name: str, a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """Returns the similarity of each row of `a` with each of `b`, ``(n, m)``.

    Args:
        name: cosine, dot, euclidean or manhattan; the distances are negative.
        a: ``(n, d)`` or ``(d,)``.
        b: ``(m, d)`` or ``(d,)``.

    Raises:
        InputError: If the measure is unknown or the shapes do not match.
    """
    left, right = _rows(a), _rows(b)
    if left.shape[1] != right.shape[1]:
        raise _mismatch(left, right)
    if name == "cosine":
        return _unit(left) @ _unit(right).T
    if name == "dot":
        return left @ right.T
    rowwise = _distance(name)
    # One row at a time, so that memory stays at one matrix of the size of `right`.
    return (
        np.stack([rowwise(row, right) for row in left])
        if len(left)
        else np.empty((0, len(right)), np.float32)
    )


def pairwise(name: str, a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """Returns the similarity of each row of `a` with the row of `b` at the same place, ``(n,)``.

    Raises:
        InputError: If the measure is unknown or the shapes do not match.
    """
    left, right = _rows(a), _rows(b)
    if left.shape != right.shape:
        raise _mismatch(left, right)
    if name in ("cosine", "dot"):
        if name == "cosine":
            left, right = _unit(left), _unit(right)
        products: Floats = np.einsum("ij,ij->i", left, right)
        return products
    return _distance(name)(left, right)


def top(scores: npt.ArrayLike, k: int | None = None) -> npt.NDArray[np.intp]:
    """Returns the places of the greatest scores along the last axis, best first.

    Of equal scores the one at the lower place comes first.

    Args:
        scores: ``(n,)`` or ``(m, n)``.
        k: How many places; all of them by default.
    """
    order: npt.NDArray[np.intp] = np.argsort(-np.asarray(scores), axis=-1, kind="stable")
    return order[..., :k]


def _rows(vectors: npt.ArrayLike) -> Floats:
    rows = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
    if rows.ndim != 2:
        raise InputError("not vectors", got=f"an array of shape {rows.shape}", expected="(n, d) or (d,)")
    return rows


def _mismatch(a: Floats, b: Floats) -> InputError:
    return InputError(
        "the vectors cannot be compared",
        got=f"shapes {a.shape} and {b.shape}",
        fix="use one truncate_dim for both",
    )


def _unit(rows: Floats) -> Floats:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = rows / np.maximum(norms, 1e-12)  # the floor that torch's normalize uses
    return unit


def _distance(name: str) -> Callable[[Floats, Floats], Floats]:
    if name == "euclidean":
        return lambda a, b: -np.linalg.norm(a - b, axis=-1)
    if name == "manhattan":
        return lambda a, b: -np.abs(a - b).sum(axis=-1)
    raise InputError("unknown similarity", got=repr(name), expected="cosine, dot, euclidean, manhattan")
