"""Checks of the options of `Index`."""

from __future__ import annotations

import contextlib
import math
import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_embed.errors import IndexModelError, InputError
from edge_embed.names import LEXICAL, SEARCH_MODES, STORED_VECTORS
from edge_embed.options import check_whole
from edge_embed.retrieval.store.settings import Settings
from edge_embed.retrieval.store.vectors import Floats, unit_rows
from edge_embed.text.inputs import check_text

MEMORY = ("full", "low")

MOST_HITS = 10_000
"""The most hits of one search."""


@dataclass(frozen=True)
class Options:
    """What was asked for when an index was opened; None where the index or the default decides."""

    memory: str
    dimension: int | None
    vectors: str | None
    lexical: str | None
    chunk_tokens: int | None
    overlap: int | None

    def check(self) -> None:
        """Refuses values that no index can have.

        Raises:
            InputError: If there is one.
        """
        _one_of("memory", self.memory, MEMORY)
        _one_of("vectors", self.vectors or STORED_VECTORS[0], STORED_VECTORS)
        _one_of("lexical", self.lexical or LEXICAL[0], LEXICAL)
        for name in ("dimension", "chunk_tokens"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name))
        if self.overlap:
            check_whole("overlap", self.overlap)

    def require_same(self, settings: Settings) -> None:
        """Refuses to open an index that was made with other choices.

        Raises:
            IndexModelError: If it was.
        """
        for name in ("dimension", "vectors", "lexical", "chunk_tokens", "overlap"):
            wanted, stored = getattr(self, name), getattr(settings, name)
            if wanted is not None and wanted != stored and not (name == "lexical" and wanted == "auto"):
                raise IndexModelError(
                    f"the index was made with another {name}",
                    got=repr(wanted),
                    expected=repr(stored),
                    fix=f"leave {name} out, or make a new index",
                )


def check_search(
    count: object, mode: object, min_score: object, diversity: object, weights: Any
) -> tuple[int, float | None, float, tuple[float, float]]:
    """Returns the options of a search, checked.

    Raises:
        InputError: If one cannot be used.
    """
    k = check_whole("k", count, MOST_HITS)
    _one_of("mode", mode, SEARCH_MODES)
    least = None if min_score is None else _number("min_score", min_score)
    spread = _number("diversity", diversity)
    if not 0 <= spread <= 1:
        raise InputError("diversity cannot be used", got=repr(diversity), expected="0 to 1")
    try:
        first, second = (_number("weights", weight) for weight in weights)
    except (TypeError, ValueError):
        first = second = -1.0
    if first < 0 or second < 0:
        raise InputError(
            "weights cannot be used",
            got=repr(weights),
            expected="two numbers, of the vectors and of the words",
        )
    return k, least, spread, (first, second)


def check_query(query: object) -> str:
    """Returns the query as text that a tokenizer can read; None is empty, and NUL is a space.

    Raises:
        InputError: If it is no text.
    """
    if query is None:
        return ""
    return check_text(query, 0).replace("\0", " ")


def check_vector(vector: npt.ArrayLike, dimension: int) -> Floats:
    """Returns the vector of a query, cut to the dimension of the index and at unit length.

    Raises:
        InputError: If it is no such vector.
    """
    try:
        row = np.asarray(vector, np.float32)
    except (TypeError, ValueError):
        row = np.empty((0, 0), np.float32)
    if row.ndim != 1 or len(row) < dimension or not np.isfinite(row).all():
        raise InputError(
            "the vector of the query cannot be used",
            got=f"shape {row.shape}" if row.size else f"{vector!r:.40}",
            expected=f"{dimension} finite numbers",
        )
    unit: Floats = unit_rows(row, dimension)[0]
    return unit


def check_marks(marks: Any) -> tuple[str, str]:
    """Returns the marks of snippets.

    Raises:
        InputError: If they are not two strings.
    """
    pair = tuple(marks) if isinstance(marks, (tuple, list)) else ()
    if len(pair) != 2 or not all(isinstance(mark, str) for mark in pair):
        raise InputError("marks cannot be used", got=repr(marks), expected="two strings")
    return pair[0], pair[1]


def _number(name: str, value: object) -> float:
    number = math.nan
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # a whole number that no float can hold
            number = float(value)
    if not math.isfinite(number):
        raise InputError(f"{name} cannot be used", got=f"{value!r:.40}", expected="a number")
    return number


def _one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{name} cannot be used", got=repr(value), expected=", ".join(map(repr, known)))
