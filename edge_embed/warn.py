"""Warnings that point at the caller's line, however deep in this package they arise."""

from __future__ import annotations

import contextlib
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge_embed.errors import PaddingWarning, TruncationWarning

if TYPE_CHECKING:
    from edge_embed.text.plan import Plan


_held = threading.local()


@contextlib.contextmanager
def hold_warnings(held: list[tuple[str, type[Warning]]]) -> Iterator[None]:
    """Collects what this thread warns of, for a caller in another thread that can point at its own line.

    Args:
        held: Receives message and category of each warning.
    """
    before, _held.warnings = getattr(_held, "warnings", None), held
    try:
        yield
    finally:
        _held.warnings = before


def warn(message: str, category: type[Warning]) -> None:
    """Warns on behalf of the first frame outside this package."""
    if (held := getattr(_held, "warnings", None)) is not None:
        held.append((message, category))
        return
    level = 2  # the caller of this function
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] == "edge_embed":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


_gathering = threading.local()


@contextlib.contextmanager
def one_warning() -> Iterator[None]:
    """Joins the warnings of this thread's calls of `Embedder` within the block into one at its end."""
    total = _gathering.total = Total()
    try:
        yield
    finally:
        _gathering.total = None
        total.warn()


class Total:
    """What several calls would have warned of."""

    def __init__(self) -> None:
        self.tally, self.texts, self.max_tokens = Tally(), 0, 0

    def warn(self) -> None:
        """Warns once."""
        self.tally.warn(self.texts, self.max_tokens)


class Tally:
    """Counts what a caller must be told of the texts of one call."""

    def __init__(self) -> None:
        self._cut = self._longest = self._padding = 0

    def add(self, work: Plan) -> None:
        """Counts one text."""
        self._cut += work.truncated
        self._padding += work.padding
        self._longest = max(self._longest, work.tokens)

    def merge(self, other: Tally) -> None:
        """Adds the counts of another call."""
        self._cut += other._cut
        self._padding += other._padding
        self._longest = max(self._longest, other._longest)

    def warn(self, total: int, max_tokens: int) -> None:
        """Warns of texts that were cut, and of texts that spell the padding token."""
        gathered = getattr(_gathering, "total", None)
        if gathered is not None and gathered.tally is not self:
            gathered.tally.merge(self)
            gathered.texts += total
            gathered.max_tokens = max_tokens
            return
        if self._cut:
            warn(
                f"{self._cut} of {total} texts were cut to {max_tokens} tokens; the longest has "
                f"{self._longest}. Choose overflow='mean' to read all of it, overflow='error' to refuse it.",
                TruncationWarning,
            )
        if self._padding:
            warn(
                f"{self._padding} of {total} texts spell the padding token, which the model does not see. "
                "Spell it otherwise if it is meant as text.",
                PaddingWarning,
            )
