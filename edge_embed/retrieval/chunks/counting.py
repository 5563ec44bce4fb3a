"""Counts tokens word by word, so that a text is read by the tokenizer about once and not once a try."""

from __future__ import annotations

import re
from collections.abc import Callable

Count = Callable[[str], int]
"""Counts how many tokens a text has, special tokens and prompt left out."""

_WORD = re.compile(r"\s*\S+|\s+")
_LONGEST_KEPT = 32
_MOST_KEPT = 200_000


class TokenCounter:
    """Counts the tokens of texts, and estimates them from the words that it has seen before.

    Calling it counts exactly. Keep one as long as the model: it remembers the words of all documents.

    Args:
        count: Tells how many tokens a text has.
        joins_words: Whether the tokenizer may make one token of parts of two words, or read a word otherwise
            beside another one. If it never does, as BERT's does not, the sum of the words is exact and no
            text is counted twice.
    """

    def __init__(self, count: Count, *, joins_words: bool = True) -> None:
        self._count = count
        self._joins_words = joins_words
        self._words = _Words(count)

    def __call__(self, text: str) -> int:
        """Returns the exact number of tokens of a text."""
        return self._count(text) if self._joins_words else self.estimate(text, 0, len(text))

    def estimate(self, text: str, start: int, end: int) -> int:
        """Returns the sum over the words of ``text[start:end]``.

        It is exact for tokenizers that never join two words, and close for the others.
        """
        return sum(map(self._words.__getitem__, _WORD.findall(text, start, end)))

    def word(self, word: str) -> int:
        """Returns the tokens of one word, with the white space before it."""
        return self._words[word]


class _Words(dict[str, int]):
    def __init__(self, count: Count) -> None:
        super().__init__()
        self._count = count

    def __missing__(self, word: str) -> int:
        tokens = self._count(word)
        if len(word) <= _LONGEST_KEPT:
            if len(self) >= _MOST_KEPT:
                self.clear()
            self[word] = tokens
        return tokens
