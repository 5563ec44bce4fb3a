"""The ids that texts have, and what else each text needs to keep them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_embed_convert.source.checkpoint import Checkpoint
from edge_embed_convert.source.loaded_tokenizer import load_tokenizer
from edge_embed_convert.source.static import read_static_tokenizer
from edge_embed_convert.trim.vocabularies import CONTINUATION, Vocabulary

_BATCH = 1024
_ENDING = 8
"""Characters of a prompt that may change how the text after it is cut."""


@dataclass(frozen=True)
class Form:
    """A text as a model may be given it.

    Attributes:
        text: The text, with what goes before it.
        ids: Its ids.
        more: Ids that it needs besides, to keep these.
    """

    text: str
    ids: tuple[int, ...]
    more: frozenset[int] = frozenset()

    @property
    def needed(self) -> set[int]:
        """All ids that the text needs."""
        return {*self.ids, *self.more}


class Tokens:
    """A checkpoint's tokenizer, as sentence-transformers feeds it.

    Args:
        backend: The tokenizer of `tokenizers`, as `load_backend` gives it.
        vocabulary: The vocabulary in its files, or in those of the source that it was trimmed from.
        prompts: What may go before a text.
    """

    def __init__(self, backend: Any, *, vocabulary: Vocabulary, prompts: Iterable[str]) -> None:
        self.backend = backend
        self.backend.no_padding()
        self.backend.no_truncation()
        self._vocabulary = vocabulary
        by_ending = {prompt[-_ENDING:]: prompt for prompt in prompts}
        self.beginnings = ("", *(prompt for prompt in by_ending.values() if prompt))
        unknown = vocabulary.spec["model"].get("unk_token")
        self._unknown = vocabulary.ids.get(unknown) if vocabulary.kind == "WordPiece" else None

    def forms(self, texts: Sequence[str]) -> Iterator[list[Form]]:
        """Yields for each text its forms: alone, and after each prompt."""
        for start in range(0, len(texts), _BATCH):
            batch = texts[start : start + _BATCH]
            columns = [
                [self._form(text, ids) for text, ids in zip(whole, self.encode(whole), strict=True)]
                for whole in ([beginning + text for text in batch] for beginning in self.beginnings)
            ]
            yield from map(list, zip(*columns, strict=True))

    def encode(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Returns the ids of texts, special tokens included."""
        found: list[tuple[int, ...]] = []
        for start in range(0, len(texts), _BATCH):  # an encoding takes kilobytes
            batch = list(texts[start : start + _BATCH])
            found += [tuple(encoding.ids) for encoding in self.backend.encode_batch(batch)]
        return found

    def _form(self, text: str, ids: tuple[int, ...]) -> Form:
        if self._unknown is None or self._unknown not in ids:
            return Form(text, ids)
        return Form(text, ids, frozenset(self._of_unknown_words(text)))

    def _of_unknown_words(self, text: str) -> Iterator[int]:
        """Yields the pieces that WordPiece finds in unknown words, up to where nothing fits."""
        normalizer, splitter = self.backend.normalizer, self.backend.pre_tokenizer
        shown = text if normalizer is None else normalizer.normalize_str(text)
        words = [word for word, _ in splitter.pre_tokenize_str(shown)] if splitter else [shown]
        for word in dict.fromkeys(words):
            yield from _found(word, self._vocabulary.spec["model"]["vocab"])


def _found(word: str, vocab: Mapping[str, int]) -> Iterator[int]:
    start = 0
    while start < len(word):
        mark = CONTINUATION if start else ""
        end = next((end for end in range(len(word), start, -1) if mark + word[start:end] in vocab), None)
        if end is None:
            return
        yield vocab[mark + word[start:end]]
        start = end


def load_backend(checkpoint: Checkpoint) -> Any:
    """Returns the tokenizer of `tokenizers` that sentence-transformers feeds a checkpoint with."""
    if checkpoint.family.without_transformers:
        return read_static_tokenizer(checkpoint.transformer_path)
    loaded = load_tokenizer(checkpoint.transformer_path, lowercase=checkpoint.lowercase)
    return loaded.backend_tokenizer


def merged(forms: Iterable[Form]) -> frozenset[int]:
    """Returns what all forms of a text need."""
    return frozenset(itertools.chain.from_iterable(form.needed for form in forms))
