"""Checks of the options of `Embedder`, and what follows from them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from edge_embed._manifest import Manifest, Vector
from edge_embed.errors import InputError, RuntimeFailure

MAX_DEFAULT_THREADS = 4
"""Phones and boards have at most this many fast cores; more threads than that slow a single text down."""

MAX_THREADS = 256


def unit(vector: Vector) -> Vector:
    """Returns the vector at unit length, computed in float64."""
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    if not norm > 0:
        raise RuntimeFailure(
            "a vector without a direction cannot be normalized", got="all zeros", fix="keep more dimensions"
        )
    return (vector / norm).astype(np.float32)


def check_dimension(dimension: int | None, manifest: Manifest) -> int | None:
    """Returns a usable number of dimensions, or None for the instance\'s own."""
    if dimension is None:
        return None
    whole = isinstance(dimension, (int, np.integer)) and not isinstance(dimension, bool)
    if not whole or not 1 <= dimension <= manifest.dimension:
        released = ", ".join(map(str, manifest.matryoshka_dimensions)) or str(manifest.dimension)
        raise InputError(
            "truncate_dim does not fit the model",
            got=repr(dimension),
            expected=f"1 to {manifest.dimension}; the model was trained for {released}",
        )
    return int(dimension)


def check_threads(num_threads: int | None) -> int:
    """Returns a usable number of threads; by default the usable cores, at most four."""
    if num_threads is None:
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(usable, MAX_DEFAULT_THREADS)
    if (
        isinstance(num_threads, bool)
        or not isinstance(num_threads, int)
        or not 1 <= num_threads <= MAX_THREADS
    ):
        raise InputError("num_threads cannot be used", got=repr(num_threads), expected=f"1 to {MAX_THREADS}")
    return num_threads


def check_weight_cache(weight_cache: str | os.PathLike[str]) -> str | Path:
    """Returns "auto", "memory", or an absolute directory."""
    if weight_cache in ("auto", "memory"):
        return str(weight_cache)
    if not isinstance(weight_cache, (str, os.PathLike)) or not os.fspath(weight_cache):
        raise InputError(
            "weight_cache cannot be used", got=repr(weight_cache), expected='"auto", "memory" or a directory'
        )
    return Path(os.path.abspath(os.path.expanduser(os.fspath(weight_cache))))
