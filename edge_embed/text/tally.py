"""What the user must know about the texts of one call: which were cut, and which have padding tokens."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from edge_embed.errors import PaddingWarning, TruncationWarning
from edge_embed.text.windows import Window
from edge_embed.warn import warn


@dataclass
class Seen:
    """What was seen of one text while its windows were run."""

    windows: int = 0
    tokens: int = 0
    complete: bool = False
    truncated: bool = False
    padding: bool = False

    def add(self, window: Window) -> None:
        """Adds a window of the text."""
        self.windows += 1
        self.tokens, self.complete = window.tokens, window.complete
        self.truncated |= window.truncated
        self.padding |= window.padding


_gathering = threading.local()


@contextlib.contextmanager
def one_warning() -> Iterator[None]:
    """Joins the warnings of this thread's calls of `Embedder` within the block into one at its end."""
    total = _gathering.total = Total()
    try:
        yield
    finally:
        _gathering.total = None
        total.tally.warn(total.texts, total.max_tokens)


class Total:
    """The counts of several calls."""

    def __init__(self) -> None:
        self.tally, self.texts, self.max_tokens = Tally(), 0, 0


class Tally:
    """Counts the texts of one call that the user must know about."""

    def __init__(self) -> None:
        self._cut = self._longest = self._padding = 0
        self._complete = True

    def add(self, text: Seen) -> None:
        """Counts one text."""
        self._cut += text.truncated
        self._padding += text.padding
        self._longest = max(self._longest, text.tokens)
        self._complete &= text.complete

    def merge(self, other: Tally) -> None:
        """Adds the counts of another call."""
        self._cut += other._cut
        self._padding += other._padding
        self._longest = max(self._longest, other._longest)
        self._complete &= other._complete

    def warn(self, total: int, max_tokens: int) -> None:
        """Warns about texts that were cut, and about texts that contain the padding token."""
        gathered = getattr(_gathering, "total", None)
        if gathered is not None and gathered.tally is not self:
            gathered.tally.merge(self)
            gathered.texts += total
            gathered.max_tokens = max_tokens
            return
        if self._cut:
            longest = f"{'' if self._complete else 'at least '}{self._longest}"
            warn(
                f"{self._cut} of {total} texts were cut to {max_tokens} tokens; the longest has {longest}. "
                "Use overflow='mean' to embed whole texts, or overflow='error' to refuse long ones.",
                TruncationWarning,
            )
        if self._padding:
            warn(
                f"{self._padding} of {total} texts contain the padding token, which the model does not see. "
                "Spell it in another way if it is meant as text.",
                PaddingWarning,
            )
