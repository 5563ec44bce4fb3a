"""Passages for a generator: numbered, with their sources, inside a budget of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edge_embed.retrieval.chunks import KINDS, SMALLEST, cut
from edge_embed.retrieval.types import Hit

if TYPE_CHECKING:
    from edge_embed.retrieval.index import Index

_NEAR = 4
"""The most characters of white space between two chunks that are joined."""


@dataclass(frozen=True)
class Passage:
    """A part of a document that answers a question.

    Attributes:
        number: Its number in the context, from 1.
        document_id: The document's id.
        title: The document's title; empty if it has none.
        headings: The headings above it, outermost first.
        start: Where it begins in the document's text, in characters.
        end: Where it ends.
        text: Its text.
        score: The score of the best chunk in it.
    """

    number: int
    document_id: str
    title: str
    headings: tuple[str, ...]
    start: int
    end: int
    text: str
    score: float

    def __str__(self) -> str:
        """Returns the passage as it stands in the context: number, title and source, then the text."""
        names = [name for name in (self.title, *self.headings) if name]
        if len(names) > 1 and names[0].casefold() == names[1].casefold():
            del names[0]
        label = " ".join(filter(None, [f"[{self.number}]", " > ".join(names), f"({self.document_id})"]))
        return f"{label}\n{self.text}"


@dataclass(frozen=True)
class Context:
    """What a generator is given to answer a question from.

    Attributes:
        text: All passages, each with its number and source.
        passages: The passages, the best first.
        tokens: How many tokens the text has, by the model's tokenizer.
    """

    text: str
    passages: tuple[Passage, ...]
    tokens: int

    def __str__(self) -> str:
        return self.text


def build_context(index: Index, hits: Sequence[Hit], max_tokens: int, count: Callable[[str], int]) -> Context:
    """Returns the passages of some hits that fit into a number of tokens.

    Chunks of one document that overlap or touch become one passage; a passage whose text was taken already is
    left out. A passage that does not fit is passed over for a shorter one; the first one is cut instead.

    Args:
        index: The index of the hits.
        hits: The hits, best first.
        max_tokens: The most tokens of the whole text.
        count: Tells how many tokens a text has.
    """
    chosen: list[Passage] = []
    for hit in hits:
        tried = _with(index, chosen, hit)
        if tried is None:
            continue
        if count(_render(tried)) > max_tokens:
            if chosen:
                continue
            tried = _shortened(tried, max_tokens, count)
        chosen = tried
    text = _render(chosen)
    return Context(text, tuple(chosen), count(text))


def _render(passages: Sequence[Passage]) -> str:
    return "\n\n".join(map(str, passages))


def _with(index: Index, passages: list[Passage], hit: Hit) -> list[Passage] | None:
    """Returns the passages with a hit among them, None if its text is in one of them already."""
    near = [p for p in passages if p.document_id == hit.document_id and _touch(index, p, hit)]
    if any(p.start <= hit.start and hit.end <= p.end for p in near):
        return None
    if not near:
        known = {" ".join(p.text.split()) for p in passages}
        if " ".join(hit.text.split()) in known:
            return None
        number = len(passages) + 1
        new = Passage(
            number, hit.document_id, hit.title, hit.headings, hit.start, hit.end, hit.text, hit.score
        )
        return [*passages, new]
    document = index.get(hit.document_id)
    if document is None:  # deleted since it was found
        return None
    start, end = min(hit.start, *(p.start for p in near)), max(hit.end, *(p.end for p in near))
    common = hit.headings
    for passage in near:
        common = _common(common, passage.headings)
    joined = replace(near[0], start=start, end=end, text=document.text[start:end], headings=common)
    rest = [joined if p is near[0] else p for p in passages if p is near[0] or p not in near]
    return [replace(p, number=number) for number, p in enumerate(rest, 1)]


def _touch(index: Index, passage: Passage, hit: Hit) -> bool:
    low, high = (passage, hit) if passage.start <= hit.start else (hit, passage)
    if high.start <= low.end:
        return True
    if high.start - low.end > _NEAR:
        return False
    document = index.get(hit.document_id)
    return document is not None and document.text[low.end : high.start].isspace()


def _common(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    length = 0
    while length < min(len(first), len(second)) and first[length] == second[length]:
        length += 1
    return first[:length]


def _shortened(passages: list[Passage], max_tokens: int, count: Callable[[str], int]) -> list[Passage]:
    """Returns the only passage, cut at a sentence or a word so that it fits; none if nothing fits."""
    passage = passages[0]
    room = max_tokens - count(_render([replace(passage, text="")]))
    while room >= SMALLEST:
        first = cut(passage.text, count=count, size=room, kind=KINDS[0])[0]
        text = passage.text[first.start : first.end]
        start = passage.start + first.start
        shorter = [replace(passage, text=text, start=start, end=start + len(text))]
        excess = count(_render(shorter)) - max_tokens
        if excess <= 0:
            return shorter
        room -= excess
    return []
