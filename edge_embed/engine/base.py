"""The contract of an engine: what runs a model file's graph."""

from __future__ import annotations

import math
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from edge_embed.errors import RuntimeFailure
from edge_embed.model_file.manifest import Manifest, Vector

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


class Engine(ABC):
    """What runs a model file's graph. Thread-safe.

    Args:
        manifest: The file's manifest.

    Attributes:
        workers: How many texts it can run at a time, each alone on one thread; 1 if it runs one at a time.
    """

    workers = 1

    def __init__(self, manifest: Manifest) -> None:
        self._name = manifest.name
        self._pad_id = manifest.tokenizer.pad_id
        self._dimension = manifest.dimension

    def run(self, length: int, ids: Sequence[int], alone: bool = False) -> Vector:
        """Runs one text.

        Args:
            length: A bucket of at least ``len(ids)``.
            ids: Token ids, special tokens included; padded here.
            alone: Whether only one thread runs this text, because up to `workers` threads run other texts.

        Returns:
            The embedding as the graph gives it, shape ``(dimension,)``.

        Raises:
            RuntimeFailure: If LiteRT fails, or the vector is not finite or is all zeros.
        """
        vector = self._invoke(length, ids, alone and self.workers > 1)
        _check_vector(vector)
        return vector

    @abstractmethod
    def close(self) -> None:
        """Releases the graph once it has ended what it runs. Calling it again does nothing."""

    @abstractmethod
    def abandon(self) -> None:
        """Forgets the graph in a forked child, without destroying it. Calling it again does nothing.

        The delegate's threads exist only in the parent; waiting for their end here would never end.
        """

    def _register(self) -> None:
        """Lets a fork find the engine. Call it at the end of a constructor: `abandon` needs all of it."""
        _engines.add(self)

    @abstractmethod
    def _invoke(self, length: int, ids: Sequence[int], alone: bool) -> Vector: ...


def closed_error(name: str) -> RuntimeFailure:
    """Returns the error of using a model that was closed."""
    return RuntimeFailure(f"the model {name} is closed", fix="make a new Embedder")


def _check_vector(vector: Vector) -> None:
    # One pass tells a usable vector. Where it does not, the squares may only have left float32's range.
    with np.errstate(all="ignore"):
        if 0 < float(np.dot(vector, vector)) < math.inf:
            return
    bad = int(np.count_nonzero(~np.isfinite(vector)))
    if bad or not vector.any():
        raise RuntimeFailure(
            "the backend returned a vector that cannot be used",
            got=f"{bad} of {vector.size} values are not finite" if bad else "all zeros",
            expected="finite values, not all zero",
            fix="load the model again; if the error stays, convert it again and report the file",
        )


def _after_fork_in_child() -> None:
    for engine in list(_engines):
        engine.abandon()
    _engines.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
