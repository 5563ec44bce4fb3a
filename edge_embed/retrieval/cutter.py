"""Documents to chunks with the titles that go into the model's document prompt."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from edge_embed.retrieval.documents import Source
from edge_embed.retrieval.store.writer import NewChunk

DEFAULT_TOKENS, DEFAULT_OVERLAP = 256, 0

_PARAGRAPH = re.compile(r"\n\s*\n")


class Cutter:
    """Cuts documents at paragraphs, as many to a chunk as fit.

    Args:
        model: The model; its `tokenize` counts tokens, words are counted if it has none.
        chunk_tokens: The most tokens of a chunk.
        overlap: Tokens that neighbouring chunks share.
    """

    def __init__(self, model: Any, chunk_tokens: int, overlap: int) -> None:
        self._size = chunk_tokens
        self._count: Callable[[str], int] = _counter(model)

    def cut(self, source: Source) -> tuple[list[NewChunk], list[str | None]]:
        """Returns the chunks of a document, and for each the title to embed it with."""
        text, start = source.text, 0
        spans: list[NewChunk] = []
        for found in [*(m.start() for m in _PARAGRAPH.finditer(text)), len(text)]:
            piece = text[start:found]
            first = start + len(piece) - len(piece.lstrip())
            last = start + len(piece.rstrip())
            start = found
            if first >= last:
                continue
            tokens = self._count(text[first:last])
            if spans and spans[-1].tokens + tokens <= self._size:
                spans[-1] = NewChunk(spans[-1].start, last, spans[-1].tokens + tokens, ())
            else:
                spans.append(NewChunk(first, last, tokens, ()))
        return spans, self._titles(source, spans)

    def _titles(self, source: Source, chunks: Sequence[NewChunk]) -> list[str | None]:
        return [source.title or None] * len(chunks)


def _counter(model: Any) -> Callable[[str], int]:
    tokenize = getattr(model, "tokenize", None)
    if tokenize is None:
        return lambda text: len(text.split())
    return lambda text: len(tokenize([text])[0])


def default_sizes(model: Any, chunk_tokens: int | None, overlap: int | None) -> tuple[int, int]:
    """Returns the size and overlap of chunks: what was asked for, or what suits the model."""
    most = getattr(model, "max_seq_length", None)
    size = chunk_tokens or min(DEFAULT_TOKENS, most - most // 4 if most else DEFAULT_TOKENS)
    return size, DEFAULT_OVERLAP if overlap is None else overlap
