"""Where sentences begin: end marks of many scripts, and a modest knowledge of abbreviations."""

from __future__ import annotations

import re
from collections.abc import Iterator

_ALONE = "。！？｡؟۔।॥։።፧፨။៕᠃"
"""Marks that end a sentence whatever follows: these scripts often put no space after them."""

_BEFORE_SPACE = ".!?…‥．"
"""Marks that end a sentence only where white space follows, as in "3.14" or "file.txt" it does not."""

_CLOSERS = "\"'”’»›)]}」』）】》〉*_"

_END = re.compile(f"([{re.escape(_ALONE + _BEFORE_SPACE)}]+)[{re.escape(_CLOSERS)}]*")
_SPACE = re.compile(r"\s*")
_ITEM = re.compile(r"\n(?=[ \t]*(?:[-*+•|]|\d{1,3}[.)])[ \t|])")
"""A list item or a table row on a line of its own."""

_LONGEST_ABBREVIATION = 8
_ABBREVIATED = """
    mr mrs ms dr prof st rev hon sen rep gen col capt lt sgt jr sr vs etc e.g i.e cf al approx dept est fig
    figs eq eqs sec ch vol no nos pp ed eds inc ltd co corp jan feb mar apr jun jul aug sep sept oct nov dec
    a.m p.m z.b d.h u.a bzw usw vgl nr abb abs ca evtl ggf str tel mio mrd hr fr bspw sog mme mlle p.ex c.-à-d
    art sra srta ud uds p.ej dña av dott sig ecc pag т.е т.д т.п т.к др пр им ул рис см стр гг
"""
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())
"""Without their last full stop, in lower case."""


def sentence_starts(text: str, start: int, end: int) -> Iterator[int]:
    """Yields where each sentence, list item or table row after the first begins in ``text[start:end]``.

    A sentence keeps the white space that follows it. Positions rise and lie strictly between the two ends.
    """
    last = start
    for position in sorted({*_after_marks(text, start, end), *_items(text, start, end)}):
        if last < position < end:
            yield position
            last = position


def _items(text: str, start: int, end: int) -> Iterator[int]:
    return (match.end() for match in _ITEM.finditer(text, start, end))


def _after_marks(text: str, start: int, end: int) -> Iterator[int]:
    for match in _END.finditer(text, start, end):
        stop, marks = match.end(), match.group(1)
        if stop >= end:
            return
        if not any(mark in _ALONE for mark in marks) and not text[stop].isspace():
            continue
        begins = _next_word(text, stop, end)
        if marks == "." and _goes_on(text, start, match.start()):
            continue
        quoted = stop > match.end(1)  # as in: "Is it red?" she asked
        if (marks == "." or quoted) and begins < end and text[begins].islower():
            continue
        yield begins


def _next_word(text: str, at: int, end: int) -> int:
    match = _SPACE.match(text, at, end)
    return match.end() if match else at


def _goes_on(text: str, start: int, mark: int) -> bool:
    """Returns whether the full stop at `mark` belongs to an abbreviation, an initial or a short number."""
    first = mark
    while first > start and mark - first <= _LONGEST_ABBREVIATION and _in_word(text[first - 1]):
        first -= 1
    word = text[first:mark]
    if len(word) == 1 and word.isalpha():
        return True
    if word.isdigit():
        return len(word) <= 2
    return word.lower() in _ABBREVIATIONS


def _in_word(character: str) -> bool:
    return character.isalnum() or character in ".-"
