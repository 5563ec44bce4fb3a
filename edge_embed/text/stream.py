"""Long texts, tokenized in chunks: as far as is needed, in bounded memory, with the ids of the whole text.

The ids of two parts of a text are in general not the ids of the text, because a token may span the place of
the cut. A text is therefore cut only at a *border*: a place that no token can span, whatever is around it.
`tokenizers` says how each tokenizer finds borders.

A tokenizer may treat the start of its input specially, for instance put a space before it. So each chunk is
encoded together with a short piece of text that precedes it, from one border to another, and the ids of that
piece are dropped.

One limit: SentencePiece's Unigram adds the scores of its pieces as float32 from the start of its input. Where
two segmentations of a word have the same score but for that rounding, such as a long run of one character,
`read_ids` may give the other one from the second part on. `first_ids` always encodes from the start.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from edge_embed.text.tokenizers import Tokenizer


@dataclass(frozen=True)
class Source:
    """A prompt and the text after it, as one text that is never copied as a whole.

    Attributes:
        head: How it begins.
        text: The text, which is read on from `offset`.
        offset: A place in `text`.
    """

    head: str
    text: str
    offset: int = 0

    def __len__(self) -> int:
        return len(self.head) + len(self.text) - self.offset

    def part(self, start: int, end: int) -> str:
        """Returns the characters from `start` to `end`."""
        before = self.offset - len(self.head)
        return self.head[start:end] + self.text[max(before + start, self.offset) : max(before + end, 0)]

    def skip(self, start: int, place: int, count: int) -> Source:
        """Returns what follows `start`, without the `count` characters from `place` on."""
        return Source(self.part(start, place), self.text, place + count + self.offset - len(self.head))


class Part(NamedTuple):
    """Some ids of a text: the ids, and whether no part follows."""

    ids: list[int]
    last: bool = False


def read_ids(tokenizer: Tokenizer, source: Source, chunk: int) -> Iterator[Part]:
    """Yields the ids of a text part by part.

    Args:
        tokenizer: The tokenizer.
        source: The text.
        chunk: How many characters to read at a time. More are read if there is no border to stop at.
    """
    # What is encoded is source[start:end]. Its first `known` ids, up to `done`, were yielded already.
    start = end = done = known = 0
    size = chunk
    while True:
        end = min(end + size, len(source))
        text = source.part(start, end)
        if end == len(source):
            yield Part(tokenizer.encode(text)[known:], last=True)
            return
        found = tokenizer.encode_to_border(text)
        if found is not None and start + found.border > done:
            yield Part(found.ids[known:])
            known = len(tokenizer.encode(text[found.before : found.border]))
            done = end = start + found.border
            start, size = start + found.before, chunk
        elif count := _skippable(tokenizer, source, text, end):
            source, done = source.skip(start, end, count), done - start
            start, end = 0, len(text)
        else:
            size *= 2


def first_ids(tokenizer: Tokenizer, source: Source, count: int, chunk: int) -> tuple[list[int], bool]:
    """Returns the first ids of a text, and whether they are all.

    Args:
        tokenizer: The tokenizer.
        source: The text.
        count: How many ids are needed. More may be returned, and fewer if there are fewer.
        chunk: How many characters to read at first. More are read if they are not enough.
    """
    end, size = 0, chunk
    while True:
        end = min(end + size, len(source))
        text = source.part(0, end)
        if end == len(source):
            return tokenizer.encode(text), True
        found = tokenizer.encode_to_border(text)
        ids = found.ids if found is not None else tokenizer.encode_beginning(text, count)
        if len(ids) >= count:
            return ids, False
        if skipped := _skippable(tokenizer, source, text, end):
            source = source.skip(0, end, skipped)
        else:
            size *= 2


def _skippable(tokenizer: Tokenizer, source: Source, text: str, end: int) -> int:
    """Returns how many characters after `text`, which ends at the place `end`, change no id."""
    return tokenizer.skippable(text, source.text, source.offset + end - len(source.head))
