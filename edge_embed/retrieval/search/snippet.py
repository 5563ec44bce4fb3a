"""The part of a chunk that answers a query, with marks around the query's words."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache

from edge_embed.retrieval.search.lexical import fold

LENGTH = 240
"""Characters of a snippet, about three lines."""

MARKS = ("**", "**")

_ELLIPSIS = "…"
_NEAR = 24
"""Characters within which an end is moved to the border of a word."""

Span = tuple[int, int, str]
"""Start and end of a term in the text, and the term."""


def snippet(
    text: str,
    terms: Sequence[str],
    *,
    inside_words: bool = False,
    length: int = LENGTH,
    marks: tuple[str, str] = MARKS,
) -> str:
    """Returns the stretch of the text with the most of the terms, marked.

    Args:
        text: The chunk's text.
        terms: Terms of the query, as `terms_of` gives them.
        inside_words: Whether terms are found inside words too, as the terms of "trigrams" must be.
        length: About how many characters of the text.
        marks: What goes before and after each term that was found.
    """
    spans = _spans(text, _folded_terms(tuple(terms), inside_words), inside_words)
    start = _best_start(spans, length)
    start, end = _to_words(text, start, min(len(text), start + length))
    parts, at = [], start
    for first, last in _merged(spans):
        if start <= first and last <= end:
            parts += [text[at:first], marks[0], text[first:last], marks[1]]
            at = last
    parts.append(text[at:end])
    body = " ".join("".join(parts).split())
    return f"{_ELLIPSIS if start else ''}{body}{_ELLIPSIS if end < len(text) else ''}"


@lru_cache(maxsize=8)
def _folded_terms(terms: tuple[str, ...], inside_words: bool) -> frozenset[str]:
    """Returns the terms as `_folded` spells them. All hits of a search have the same."""
    return frozenset(term.lower() if inside_words else fold(term) for term in terms)


def _spans(text: str, terms: frozenset[str], inside_words: bool) -> list[Span]:
    """Returns where the folded terms are, in order."""
    folded, places = _folded(text, marks=inside_words)
    spans = []
    for term in terms:
        at = folded.find(term)
        while at >= 0:
            end = at + len(term)
            if inside_words or not (_in_word(folded, at - 1) or _in_word(folded, end)):
                spans.append((at, end, term) if places is None else (places[at], places[end], term))
            at = folded.find(term, at + 1)
    return sorted(spans)


def _folded(text: str, *, marks: bool) -> tuple[str, list[int] | None]:
    """Returns the text as terms are folded, and the place in the text of each character, None if the same.

    Args:
        text: The text.
        marks: Whether diacritics are kept.
    """
    if text.isascii():
        return text.lower(), None
    letters = {letter: letter.lower() if marks else _fold_letter(letter) for letter in set(text)}
    parts = [letters[letter] for letter in text]
    if all(len(part) == 1 for part in letters.values()):
        return "".join(parts), None
    places: list[int] = []
    for place, part in enumerate(parts):
        places += [place] * len(part)
    places.append(len(text))
    return "".join(parts), places


@lru_cache(maxsize=4096)
def _fold_letter(letter: str) -> str:
    return fold(letter)


def _in_word(text: str, place: int) -> bool:
    return 0 <= place < len(text) and text[place].isalnum()


def _best_start(spans: Sequence[Span], length: int) -> int:
    """Returns where the window begins that holds the most different terms, the first such."""
    if not spans or spans[-1][1] <= length:
        return 0
    best, most = 0, 0
    starts = [start for start, _, _ in spans]
    for index, start in enumerate(starts):
        inside = spans[index : bisect_right(starts, start + length)]
        different = len({term for _, end, term in inside if end <= start + length})
        if different > most:
            best, most = start, different
    # Some words before the first one found make it readable.
    return max(0, best - length // 4)


def _to_words(text: str, start: int, end: int) -> tuple[int, int]:
    """Moves both ends inwards to the borders of words, where one is near."""
    if start:
        space = text.find(" ", start, start + _NEAR)
        start = space + 1 if space >= 0 else start
    if end < len(text):
        space = text.rfind(" ", max(start, end - _NEAR), end)
        end = space if space > start else end
    return start, end


def _merged(spans: Sequence[Span]) -> list[tuple[int, int]]:
    """Returns the spans without overlaps; those that overlap become one."""
    merged: list[tuple[int, int]] = []
    for start, end, _ in spans:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
