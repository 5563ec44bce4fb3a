"""Compares the vectors of an engine with those of the fp32 source: speed counts only if they agree."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_embed_bench.errors import MeasurementError


def least_cosine(vectors: npt.ArrayLike, expected: npt.ArrayLike) -> float:
    """Returns the lowest cosine between corresponding rows; NaN where a vector has no direction.

    Raises:
        MeasurementError: If the shapes differ.
    """
    ours, theirs = np.asarray(vectors, np.float64), np.asarray(expected, np.float64)
    if ours.shape != theirs.shape:
        raise MeasurementError(
            "the engine returned vectors of another shape", got=str(ours.shape), expected=str(theirs.shape)
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        return float(np.min(np.sum(ours * theirs, axis=1) / norms))


def require(cosine: float, least: float) -> None:
    """Refuses vectors that differ from those of the source.

    Raises:
        MeasurementError: If the cosine is below the bound or is not a number.
    """
    if not cosine >= least:
        raise MeasurementError(
            "wrong vectors: the engine does not reproduce the fp32 source",
            got=f"cosine {cosine:.4f}",
            expected=f"at least {least:g}",
        )
