"""Documents to chunks with the titles that go into the model's document prompt."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from edge_embed.retrieval.chunks import Sizes, TokenCounter, check_size, chunk_title, cut, sizes_for
from edge_embed.retrieval.documents import Source
from edge_embed.retrieval.store.writer import NewChunk
from edge_embed.text.tokenizers import Tokenizer

_WITHOUT_TOKENIZER = Sizes(256, 32, 32)
"""Sizes in words, for a model of another make that shows no tokenizer."""

_counters: WeakKeyDictionary[Any, TokenCounter] = WeakKeyDictionary()


class Cutter:
    """Cuts documents.

    Args:
        model: The model; words are counted if it has no `tokenizer`.
        chunk_tokens: The most tokens of a chunk.
        overlap: Tokens that neighbouring chunks share.
    """

    def __init__(self, model: Any, chunk_tokens: int, overlap: int) -> None:
        self._count = counter_for(model)
        self._sizes = _sizes(model, chunk_tokens, overlap)

    def cut(self, source: Source) -> tuple[list[NewChunk], list[str | None]]:
        """Returns the chunks of a document, and for each the title to embed it with."""
        sizes = self._sizes
        found = cut(source.text, count=self._count, size=sizes.size, overlap=sizes.overlap, kind=source.kind)
        chunks = [NewChunk(c.start, c.end, c.tokens, c.headings) for c in found]
        by_path: dict[tuple[str, ...], str | None] = {}
        for chunk in chunks:
            if chunk.headings not in by_path:
                by_path[chunk.headings] = chunk_title(
                    source.title, chunk.headings, count=self._count, limit=sizes.title
                )
        return chunks, [by_path[chunk.headings] for chunk in chunks]


def default_sizes(model: Any, chunk_tokens: int | None, overlap: int | None) -> tuple[int, int]:
    """Returns the size and overlap of chunks: what was asked for, or what suits the model.

    Raises:
        InputError: If the model cannot take what was asked for.
    """
    sizes = _sizes(model, chunk_tokens, overlap)
    return sizes.size, sizes.overlap


def _sizes(model: Any, size: int | None, overlap: int | None) -> Sizes:
    if hasattr(model, "manifest"):
        return sizes_for(model.manifest, counter_for(model), size=size, overlap=overlap)
    defaults = _WITHOUT_TOKENIZER
    size = defaults.size if size is None else size
    overlap = size // 8 if overlap is None else overlap
    check_size(size, overlap)
    return Sizes(size, overlap, defaults.title)


def counter_for(model: Any) -> TokenCounter:
    """Returns the counter of a model, the same one each time: it remembers words."""
    counter = _counters.get(model)
    if counter is None:
        counter = _counters[model] = _counter_of(getattr(model, "tokenizer", None))
    return counter


def _counter_of(tokenizer: Tokenizer | None) -> TokenCounter:
    if tokenizer is None:
        return TokenCounter(lambda text: len(text.split()), joins_words=False)
    return TokenCounter(lambda text: len(tokenizer.encode(text)), joins_words=tokenizer.joins_words)
