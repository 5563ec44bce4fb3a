"""What the user must know about the texts of one call: which were cut, and which have padding tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from edge_embed.errors import PaddingWarning, TruncationWarning
from edge_embed.text.windows import Window
from edge_embed.warn import Notice, Source, hold_warnings, warn_of


class Seen:
    """What was seen of one text while its windows were run."""

    def __init__(self) -> None:
        self.windows = self.tokens = 0
        self.complete = self.truncated = self.padding = False

    def add(self, window: Window) -> None:
        """Adds a window of the text."""
        self.windows += 1
        self.tokens, self.complete = window.tokens, window.complete
        self.truncated |= window.truncated
        self.padding |= window.padding


@contextlib.contextmanager
def one_warning() -> Iterator[None]:
    """Joins the warnings of this thread's calls of `Embedder` within the block into one at its end."""
    total = Tally()
    try:
        with counted_in(total):
            yield
    finally:
        warn_of(total)


@contextlib.contextmanager
def counted_in(total: Tally) -> Iterator[None]:
    """Adds to `total` what this thread's calls of `Embedder` within the block would warn about."""

    def receive(source: Source) -> bool:
        if isinstance(source, Tally):
            total.merge(source)
            return True
        return False

    with hold_warnings(receive):
        yield


class Tally:
    """Counts the texts of a call that the user must know about. `warn_of` warns about them.

    Args:
        max_tokens: The most tokens of a text that the model reads.
    """

    def __init__(self, max_tokens: int = 0) -> None:
        self._max_tokens = max_tokens
        self._texts = self._cut = self._longest = self._padding = 0
        self._complete = True

    def add(self, text: Seen) -> None:
        """Counts one text."""
        self._texts += 1
        self._cut += text.truncated
        self._padding += text.padding
        self._longest = max(self._longest, text.tokens)
        self._complete &= text.complete

    def merge(self, other: Tally) -> None:
        """Adds the counts of another call."""
        self._texts += other._texts
        self._cut += other._cut
        self._padding += other._padding
        self._longest = max(self._longest, other._longest)
        self._complete &= other._complete
        self._max_tokens = other._max_tokens

    def notices(self) -> list[Notice]:
        """Returns the warnings about texts that were cut and about texts that contain the padding token."""
        notices = []
        if self._cut:
            longest = f"{'' if self._complete else 'at least '}{self._longest}"
            message = (
                f"{self._cut} of {self._texts} texts were cut to {self._max_tokens} tokens; the longest has "
                f"{longest}. Use overflow='mean' to embed whole texts, or overflow='error' to refuse long "
                "ones."
            )
            notices.append(Notice(message, TruncationWarning))
        if self._padding:
            message = (
                f"{self._padding} of {self._texts} texts contain the padding token, which the model does not "
                "see. Spell it in another way if it is meant as text."
            )
            notices.append(Notice(message, PaddingWarning))
        return notices
