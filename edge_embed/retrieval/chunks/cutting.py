"""Cuts a text into chunks with a limited number of tokens, at the best borders that there are."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from edge_embed.errors import InputError
from edge_embed.retrieval.chunks.counting import Count, TokenCounter
from edge_embed.retrieval.chunks.outline import KINDS, Block, Border, blocks
from edge_embed.retrieval.chunks.sentences import sentence_starts

SMALLEST = 8
"""The least size of a chunk, in tokens."""

CHARACTERS_PER_TOKEN = 24
"""A chunk has no more characters than this a token: WordPiece reads a word of 100 characters as one token."""

_PIECES = 4
"""A sentence that is too long becomes pieces of this part of the size, so that a chunk is filled well."""

_SMALL = 8
"""A section of less than this part of the size shares a chunk with the next one."""

_WORD = re.compile(r"\S+")
_CLAUSE_ENDS = "，、；：,;:"


@dataclass(frozen=True)
class Chunk:
    """A part of a text.

    Attributes:
        start: Its first character in the text.
        end: The character after its last; ``text[start:end]`` is the chunk.
        headings: The headings above it, the outermost first; in source code the names of the definitions.
        tokens: How many tokens it has, by the count that it was cut with.
    """

    start: int
    end: int
    headings: tuple[str, ...]
    tokens: int


def cut(text: str, *, count: Count, size: int, overlap: int = 0, kind: str = "text") -> list[Chunk]:
    """Cuts a text into chunks.

    A chunk ends at a heading, else at the best border in its second half: a paragraph, a sentence, a line, a
    word, a character. Sections that are much smaller than a chunk share one. The next chunk begins up to
    `overlap` tokens before the end of the last one, at a sentence or a word; not before a heading.
    White space around a chunk belongs to no chunk; every other character belongs to at least one.

    The time is linear in the length of the text: words are counted once, then each chunk as a whole.

    Args:
        text: The text.
        count: Tells how many tokens a text has. A `TokenCounter` saves time over many texts.
        size: The most tokens of a chunk. A single character is never cut, whatever its number of tokens.
        overlap: The most tokens that a chunk repeats of the one before; at most half the size.
        kind: "text", "markdown" or "code".

    Returns:
        The chunks in order; none for a text of white space.

    Raises:
        InputError: If an option cannot be used.
    """
    if kind not in KINDS:
        raise InputError("unknown kind of text", got=repr(kind), expected=", ".join(KINDS))
    check_size(size, overlap)
    return _Cutter(text, count, size, overlap, kind).chunks()


def check_size(size: int, overlap: int) -> None:
    """Refuses a size and an overlap that no text can be cut with.

    Raises:
        InputError: If the size is too small, or the overlap is negative or more than half of it.
    """
    if size < SMALLEST:
        raise InputError("the chunk size is too small", got=f"{size} tokens", expected=f"{SMALLEST} or more")
    if not 0 <= overlap <= size // 2:
        raise InputError(
            "the chunk overlap does not fit the chunk size",
            got=f"{overlap} tokens",
            expected=f"0 to {size // 2}, half of the size",
        )


class _Cutter:
    """The text as atoms, the smallest spans that stay together, and what packs them into chunks."""

    def __init__(self, text: str, count: Count, size: int, overlap: int, kind: str) -> None:
        self._text, self._size, self._overlap = text, size, overlap
        self._count = count if isinstance(count, TokenCounter) else TokenCounter(count)
        self._limit = size - overlap  # of an atom, so that an overlap always fits before it
        self._starts: list[int] = []
        self._tokens: list[int] = []
        self._borders: list[Border] = []
        self._blocks: list[Block] = []
        for block, end in _spans(blocks(text, kind), len(text)):
            self._add_block(block, end)
        self._starts.append(len(text))

    def chunks(self) -> list[Chunk]:
        """Packs the atoms from first to last."""
        found: list[Chunk] = []
        section = 0  # where the overlap of the next chunk may not reach before
        first, total = 0, len(self._tokens)
        while first < total:
            if self._borders[first] == Border.HEADING:
                section = self._starts[first]
            floor = max(section, found[-1].start + 1) if found else section
            begin = self._overlap_start(floor, first)
            after, begin, tokens = self._fill(first, begin)
            found += self._make(begin, first, after, tokens)
            first = after
        return found

    def _add_block(self, block: Block, end: int) -> None:
        border, lines = block.border, block.lines
        starts = _line_starts if lines else sentence_starts
        for start, stop in pairwise([block.start, *starts(self._text, block.start, end), end]):
            if start > block.start:
                border = Border.SENTENCE
                if lines and not _after_blank_line(self._text, start):
                    border = Border.LINE
            if stop - start <= self._limit * CHARACTERS_PER_TOKEN:
                tokens = self._count.estimate(self._text, start, stop)
                if tokens <= self._limit:
                    self._add_atom(start, tokens, border, block)
                    continue
            for piece, tokens in self._pieces(start, stop):
                self._add_atom(piece, tokens, border if piece == start else self._kind_of(piece), block)

    def _add_atom(self, start: int, tokens: int, border: Border, block: Block) -> None:
        self._starts.append(start)
        self._tokens.append(tokens)
        self._borders.append(border)
        self._blocks.append(block)

    def _pieces(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yields start and tokens of the parts of a span that has no better borders than words."""
        most = max(1, self._limit // _PIECES)
        longest = most * CHARACTERS_PER_TOKEN
        begin, total = start, 0
        at = start
        for match in _WORD.finditer(self._text, start, end):
            stop = match.end()
            if stop - at > longest:
                if total:
                    yield begin, total
                yield from self._characters(at, stop)
                begin, total, at = stop, 0, stop
                continue
            tokens = self._count.word(self._text[at:stop])
            if total and (total + tokens > most or stop - begin > longest or self._text[at] == "\n"):
                yield begin, total
                begin, total = at, 0
            if tokens > most:
                yield from self._characters(at, stop)
                begin, tokens = stop, 0
            total, at = total + tokens, stop
        if begin < end and (total or at > begin or end > at):
            yield begin, total

    def _characters(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yields start and tokens of the parts of one long word, or of a script without spaces."""
        while start < end:
            stop = self._clause_end(start, min(end, start + self._limit), end)
            tokens = self._count(self._text[start:stop])
            while tokens > self._limit and stop - start > 1:
                shorter = max(1, min(stop - start - 1, (stop - start) * self._limit // tokens))
                stop = self._clause_end(start, start + shorter, end)
                tokens = self._count(self._text[start:stop])
            yield start, tokens
            start = stop

    def _clause_end(self, start: int, stop: int, end: int) -> int:
        """Returns a place at or before `stop` where a clause ends, in the second half; else `stop`."""
        if stop >= end:
            return end
        half = start + (stop - start + 1) // 2
        best = max(self._text.rfind(mark, half, stop) for mark in _CLAUSE_ENDS)
        if best >= 0:
            return best + 1
        while stop > start + 1 and unicodedata.combining(self._text[stop]):
            stop -= 1
        return stop

    def _kind_of(self, start: int) -> Border:
        if self._text[start] == "\n" or self._text[start - 1] == "\n":
            return Border.LINE
        spaced = self._text[start].isspace() or self._text[start - 1].isspace()
        return Border.WORD if spaced or self._text[start - 1] in _CLAUSE_ENDS else Border.CHARACTER

    def _fill(self, first: int, begin: int) -> tuple[int, int, int]:
        """Returns the atom after the last one, where the chunk begins with its overlap, and its tokens."""
        before = self._starts[first]
        room = self._size - (self._count(self._text[begin:before]) if begin < before else 0)
        while True:
            after = self._reach(first, begin, room)
            start, end = self._trimmed(begin, self._starts[after])
            tokens = self._count(self._text[start:end])
            excess = tokens - self._size
            if excess <= 0:
                return after, begin, tokens
            if after > first + 1:
                # A whole may have more tokens than its parts together.
                room = min(room, sum(self._tokens[first:after])) - excess
            elif begin < before:
                begin, room = before, self._size
            else:
                return after, begin, tokens

    def _reach(self, first: int, begin: int, room: int) -> int:
        """Returns the atom before which a chunk that begins with the atom `first` ends best."""
        total, after = self._tokens[first], first + 1
        farthest = begin + self._size * CHARACTERS_PER_TOKEN
        while after < len(self._tokens):
            if self._borders[after] == Border.HEADING and not self._shares(first, after, total):
                return after
            if total + self._tokens[after] > room or self._starts[after + 1] > farthest:
                break
            total += self._tokens[after]
            after += 1
        else:
            return after
        best, rest = after, total
        for candidate in range(after, first, -1):
            if 2 * rest < room and candidate < after:
                break
            if self._borders[candidate] > self._borders[best]:
                best = candidate
            rest -= self._tokens[candidate - 1]
        return best

    def _shares(self, first: int, heading: int, tokens: int) -> bool:
        """Returns whether a section may go on behind another heading: it is small, and not less deep."""
        opened = self._blocks[first]
        starts_section = first == 0 or self._borders[first] == Border.HEADING
        return starts_section and _SMALL * tokens < self._size and self._blocks[heading].level >= opened.level

    def _overlap_start(self, floor: int, first: int) -> int:
        """Returns where a chunk begins whose first new atom is `first`."""
        end = self._starts[first]
        if not self._overlap or floor >= end:
            return end
        begin, total, stop = end, 0, end
        window = max(floor, end - self._overlap * CHARACTERS_PER_TOKEN)
        for match in reversed(list(_WORD.finditer(self._text, window, end))):
            total += self._count.word(self._text[match.start() : stop])
            if total > self._overlap:
                break
            begin = stop = match.start()
        if begin == window > floor or not self._at_word(begin):
            begin = self._next_word(begin, end)
        while begin < end and self._count(self._text[begin:end]) > self._overlap:
            begin = self._next_word(begin, end)
        if begin == end:
            return self._overlap_in_word(window, end)
        # A sentence is better than a word where it leaves half of the overlap.
        atom, sentence = first, begin
        while atom and self._starts[atom - 1] >= begin:
            atom -= 1
            if self._borders[atom] >= Border.SENTENCE and 2 * (end - self._starts[atom]) >= end - begin:
                sentence = self._starts[atom]
        return sentence

    def _at_word(self, at: int) -> bool:
        return at == 0 or self._text[at - 1].isspace()

    def _next_word(self, at: int, end: int) -> int:
        """Returns where the next word begins, at `end` or before."""
        while at < end and not self._text[at].isspace():
            at += 1
        while at < end and self._text[at].isspace():
            at += 1
        return at

    def _overlap_in_word(self, window: int, end: int) -> int:
        """Returns the start of an overlap within a word, or in a script without spaces."""
        places = [at for at in range(window, end) if not unicodedata.combining(self._text[at])]
        low, high = 0, len(places)
        while low < high:
            middle = (low + high) // 2
            if self._count(self._text[places[middle] : end]) <= self._overlap:
                high = middle
            else:
                low = middle + 1
        return places[low] if low < len(places) else end

    def _make(self, begin: int, first: int, after: int, tokens: int) -> Iterator[Chunk]:
        start, end = self._trimmed(begin, self._starts[after])
        if start >= end or self._trimmed(self._starts[first], end)[0] >= end:
            return  # nothing but an overlap
        headings = self._headings(first, after)
        if tokens <= self._size:
            yield Chunk(start, end, headings, tokens)
            return
        # One atom, which has more tokens alone than its words have together.
        for piece, stop in pairwise([*(at for at, _ in self._characters(start, end)), end]):
            low, high = self._trimmed(piece, stop)
            if low < high:
                yield Chunk(low, high, headings, self._count(self._text[low:high]))

    def _headings(self, first: int, after: int) -> tuple[str, ...]:
        """Returns what the headings of the atoms have in common; a heading's own line has no say."""
        paths = {self._blocks[i].headings for i in range(first, after) if not self._blocks[i].bare}
        paths = paths or {self._blocks[i].headings for i in range(first, after)}
        common: list[str] = []
        for level in zip(*paths, strict=False):
            if len(set(level)) > 1:
                break
            common.append(level[0])
        return tuple(common)

    def _trimmed(self, start: int, end: int) -> tuple[int, int]:
        text = self._text
        while end > start and text[end - 1].isspace():
            end -= 1
        while start < end and text[start].isspace():
            start += 1
        return start, end


def _spans(found: Iterator[Block], end: int) -> Iterator[tuple[Block, int]]:
    """Yields each block with its end; the first one begins with the text."""
    held: Block | None = None
    for block in found:
        if held is not None and block.start > held.start:
            yield held, block.start
        elif held is None and block.start > 0:
            yield Block(0, Border.PARAGRAPH), block.start
        held = block
    if held is not None and held.start < end:
        yield held, end
    elif held is None and end:
        yield Block(0, Border.PARAGRAPH), end


def _line_starts(text: str, start: int, end: int) -> Iterator[int]:
    at = text.find("\n", start, end) + 1
    while 0 < at < end:
        yield at
        at = text.find("\n", at, end) + 1


def _after_blank_line(text: str, start: int) -> bool:
    line = text.rfind("\n", 0, start - 1) + 1
    return not text[line : start - 1].strip()
