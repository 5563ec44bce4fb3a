"""The part of a chunk that answers a query, with marks around the query's words."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection

from edge_embed.retrieval.search.lexical import fold

LENGTH = 240
"""Characters of a snippet, about three lines."""

MARKS = ("**", "**")

_WORD = re.compile(r"[^\W_]+")
_ELLIPSIS = "…"


def snippet(
    text: str, terms: Collection[str], *, length: int = LENGTH, marks: tuple[str, str] = MARKS
) -> str:
    """Returns the stretch of the text with the most of the terms, marked.

    Args:
        text: The chunk's text.
        terms: Terms of the query, as `terms_of` gives them. A term of three characters that is no word of
            its own, from "trigrams", is found inside words too.
        length: About how many characters of the text.
        marks: What goes before and after each word that was found.
    """
    spans = _spans(text, terms)
    start = _best_start(spans, length)
    start, end = _to_words(text, start, min(len(text), start + length))
    parts, at = [], start
    for first, last in _merged(spans):
        if start <= first and last <= end:
            parts += [text[at:first], marks[0], text[first:last], marks[1]]
            at = last
    parts.append(text[at:end])
    body = re.sub(r"\s+", " ", "".join(parts)).strip()
    return f"{_ELLIPSIS if start else ''}{body}{_ELLIPSIS if end < len(text) else ''}"


def _spans(text: str, terms: Collection[str]) -> list[tuple[int, int, str]]:
    wanted = set(terms)
    spans = []
    for found in _WORD.finditer(text):
        word = fold(found.group())
        if word in wanted:
            spans.append((found.start(), found.end(), word))
            continue
        lowered = found.group().lower()
        if len(lowered) != len(found.group()):
            continue
        spans += [
            (found.start() + at, found.start() + at + 3, lowered[at : at + 3])
            for at in range(len(lowered) - 2)
            if lowered[at : at + 3] in wanted and not lowered.isascii()
        ]
    return spans


def _best_start(spans: list[tuple[int, int, str]], length: int) -> int:
    """Returns where the window begins that holds the most different terms, the first such."""
    best, most = 0, 0
    starts = [start for start, _, _ in spans]
    for index, (start, _, _) in enumerate(spans):
        inside = spans[index : bisect_right(starts, start + length)]
        different = len({term for _, end, term in inside if end <= start + length})
        if different > most:
            best, most = start, different
    # Some words before the first one found make it readable.
    return max(0, best - length // 4) if spans and spans[-1][1] > length else 0


def _to_words(text: str, start: int, end: int) -> tuple[int, int]:
    """Moves both ends inwards to the borders of words, where one is near."""
    if start:
        space = text.find(" ", start, start + 24)
        start = space + 1 if space >= 0 else start
    if end < len(text):
        space = text.rfind(" ", max(start, end - 24), end)
        end = space if space > start else end
    return start, end


def _merged(spans: list[tuple[int, int, str]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end, _ in spans:
        if merged and start <= merged[-1][1] and start > merged[-1][0]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
