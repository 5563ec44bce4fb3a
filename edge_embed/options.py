"""Checks of the options of `Embedder`."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edge_embed.errors import InputError
from edge_embed.model_file.manifest import Manifest
from edge_embed.names import ACCELERATORS

MAX_DEFAULT_THREADS = 4
"""Phones and boards have at most this many fast cores; more threads than that slow a single text down."""

MAX_THREADS = 256

_COMPATIBLE: Mapping[str, tuple[object, ...]] = {
    "output_value": ("sentence_embedding",),
    "precision": ("float32",),
    "convert_to_numpy": (True,),
    "convert_to_tensor": (False,),
    "device": (None, "cpu"),
}
"""What `encode` takes of sentence-transformers' other arguments: the values that say what it does anyway."""


def check_dimension(dimension: int | None, manifest: Manifest) -> int | None:
    """Returns a usable number of dimensions, or None for the instance's own."""
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


def check_compatibility(**arguments: object) -> None:
    """Checks the arguments that `encode` takes only so that calls of sentence-transformers work unchanged.

    Args:
        arguments: Any of ``output_value="sentence_embedding"``, ``precision="float32"``,
            ``convert_to_numpy=True``, ``convert_to_tensor=False``, and ``device`` None or "cpu".

    Raises:
        TypeError: If there is no such argument.
        InputError: If one has another value.
    """
    for name, value in arguments.items():
        if name not in _COMPATIBLE:
            raise TypeError(f"unexpected keyword argument {name!r}")
        # By type as well: 1 equals True, and an array compares item by item.
        if not any(type(value) is type(only) and value == only for only in _COMPATIBLE[name]):
            raise InputError(
                f"{name} cannot be used",
                got=repr(value),
                expected=" or ".join(map(repr, _COMPATIBLE[name])),
                fix="leave it out; vectors are float32 numpy arrays, computed on the CPU",
            )


def check_whole(name: str, value: object, most: int | None = None) -> int:
    """Returns a whole number of at least 1 and at most `most`, numpy's integers included."""
    try:
        # numpy's booleans have an index before numpy 2.3, with a warning.
        number = 0 if isinstance(value, bool | np.bool_) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if number < 1 or (most is not None and number > most):
        expected = "a positive whole number" if most is None else f"1 to {most}"
        raise InputError(f"{name} cannot be used", got=repr(value), expected=expected)
    return number


def check_threads(num_threads: int | None) -> int:
    """Returns a usable number of threads; by default the usable cores, at most four."""
    if num_threads is None:
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(usable, MAX_DEFAULT_THREADS)
    return check_whole("num_threads", num_threads, MAX_THREADS)


def check_accelerator(accelerator: object) -> str:
    """Returns the name of an accelerator."""
    if not isinstance(accelerator, str) or accelerator not in ACCELERATORS:
        raise InputError(
            "accelerator cannot be used", got=repr(accelerator), expected=", ".join(map(repr, ACCELERATORS))
        )
    return accelerator


def check_weight_cache(weight_cache: str | os.PathLike[str]) -> str | Path:
    """Returns "auto", "memory", or an absolute directory."""
    if weight_cache in ("auto", "memory"):
        return str(weight_cache)
    if not isinstance(weight_cache, (str, os.PathLike)) or not os.fspath(weight_cache):
        raise InputError(
            "weight_cache cannot be used", got=repr(weight_cache), expected='"auto", "memory" or a directory'
        )
    return Path(os.path.abspath(os.path.expanduser(os.fspath(weight_cache))))
