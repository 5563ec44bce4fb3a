"""Text to token ids: three kinds of tokenizer behind one method, each imported when a file needs it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, Protocol

from edge_embed.errors import InputError, TokenizerError
from edge_embed.model_file.manifest import TokenizerRecord
from edge_embed.names import SENTENCEPIECE, TOKENIZER_KINDS, TOKENIZERS, UNIGRAM


class Tokenizer(Protocol):
    """Turns text into content ids: nothing is added around them."""

    def encode(self, text: str) -> list[int]:
        """Returns the ids of `text`. Special tokens spelled out in the text become their ids."""
        ...

    @property
    def joins_words(self) -> bool:
        """Whether the ids of a text may differ from those of its words, one after the other."""
        ...


def load_tokenizer(record: TokenizerRecord, data: bytes) -> Tokenizer:
    """Builds the tokenizer that a manifest describes.

    Args:
        record: The manifest's description.
        data: The content of the zip member `record.file`.

    Raises:
        TokenizerError: If the content cannot be read or does not have the vocabulary the manifest names.
    """
    if record.kind == SENTENCEPIECE:
        return _SentencePiece(record, data)
    if record.kind == UNIGRAM:
        return _Unigram(record, data)
    if record.kind == TOKENIZERS:
        return _HuggingFace(record, data)
    raise TokenizerError("unknown kind of tokenizer", got=record.kind, expected=" or ".join(TOKENIZER_KINDS))


def check_present(record: TokenizerRecord, names: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Refuses a model file whose archive lacks its tokenizer.

    Args:
        record: The manifest's word on it.
        names: The archive's members.
        path: The model file, for the message.

    Raises:
        TokenizerError: If it is not among them.
    """
    if record.file not in names:
        raise TokenizerError(
            f"the tokenizer is missing from {path}",
            got=", ".join(names),
            expected=record.file,
            fix="convert the model again",
        )


def check_text(text: object, index: int) -> str:
    """Returns `text` if it is a string that can be encoded as UTF-8.

    Args:
        text: What the user passed.
        index: Its place in the list, for the message.

    Raises:
        InputError: If it is not a string or holds a lone surrogate.
    """
    if not isinstance(text, str):
        raise InputError(
            f"item {index} is not a text", got=type(text).__name__, expected="str", fix="pass only strings"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"text {index} holds a lone surrogate, which no tokenizer can read",
            got=f"{text[error.start]!r} at position {error.start}",
            expected="text that can be encoded as UTF-8",
            fix='text.encode("utf-8", "replace").decode()',
        ) from error
    return text


class _SentencePiece:
    def __init__(self, record: TokenizerRecord, data: bytes) -> None:
        from sentencepiece import SentencePieceProcessor  # only for files that need it

        processor = SentencePieceProcessor()
        try:
            processor.LoadFromSerializedProto(data)
            size = int(processor.GetPieceSize())
        except (RuntimeError, ValueError, TypeError, OSError) as error:
            raise _unreadable(record, error) from error
        _require_entries(record, size)
        self._processor: Any = processor
        self._lowercase = record.lowercase
        self.joins_words = True
        # SentencePiece never makes its control pieces from text; transformers does where it spells them.
        candidates = (processor.bos_id(), processor.eos_id(), processor.pad_id(), processor.unk_id())
        ids = {i for i in candidates if i >= 0}
        self._special = {processor.IdToPiece(i): i for i in ids}
        self._pattern = re.compile("(" + "|".join(map(re.escape, self._special)) + ")") if ids else None

    def encode(self, text: str) -> list[int]:
        if self._lowercase:
            text = text.lower()
        parts = self._pattern.split(text) if self._pattern else [text]
        if len(parts) == 1:
            return list(self._processor.EncodeAsIds(text))
        ids: list[int] = []
        for part in filter(None, parts):
            ids += [self._special[part]] if part in self._special else self._processor.EncodeAsIds(part)
        return ids


class _Unigram:
    def __init__(self, record: TokenizerRecord, data: bytes) -> None:
        from edge_embed.text.unigram import UnigramEncoder  # two libraries, only for files that need them

        try:
            encoder = UnigramEncoder(data)
        # The map of characters ends in bare Exceptions of the tokenizers library.
        except Exception as error:
            raise _unreadable(record, error) from error
        _require_entries(record, encoder.size)
        self._encoder = encoder
        self.joins_words = True  # a space and a combining mark after it are one cluster

    def encode(self, text: str) -> list[int]:
        return self._encoder.encode(text)


class _HuggingFace:
    def __init__(self, record: TokenizerRecord, data: bytes) -> None:
        import tokenizers  # only for files that need it

        try:
            tokenizer = tokenizers.Tokenizer.from_str(data.decode("utf-8"))
            # A file may carry the settings of its training; length is the runtime's business here.
            tokenizer.no_truncation()
            tokenizer.no_padding()
        # Its errors are bare Exceptions: nothing narrower can be caught.
        except Exception as error:
            raise _unreadable(record, error) from error
        _require_entries(record, tokenizer.get_vocab_size(with_added_tokens=True))
        self._tokenizer = tokenizer
        self._lowercase = record.lowercase
        # BERT's splits at white space before anything else.
        self.joins_words = not (
            isinstance(tokenizer.model, tokenizers.models.WordPiece)
            and isinstance(tokenizer.pre_tokenizer, tokenizers.pre_tokenizers.BertPreTokenizer)
        )

    def encode(self, text: str) -> list[int]:
        if self._lowercase:
            text = text.lower()
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _unreadable(record: TokenizerRecord, error: Exception) -> TokenizerError:
    return TokenizerError(
        f"the tokenizer {record.file!r} cannot be read",
        got=str(error) or type(error).__name__,
        expected=f"a file of kind {record.kind}",
        fix="convert the model again",
    )


def _require_entries(record: TokenizerRecord, size: int) -> None:
    # No upper bound: Gemma's tokenizer has one entry more than its embedding table has rows.
    if size < 1:
        raise _unreadable(record, ValueError("no entries"))
