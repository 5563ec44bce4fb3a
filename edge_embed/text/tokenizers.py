"""Text to token ids: three kinds of tokenizer behind one protocol, each imported when a file needs it."""

from __future__ import annotations

import itertools
import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from edge_embed.errors import TokenizerError
from edge_embed.model_file.manifest import TokenizerRecord
from edge_embed.names import SENTENCEPIECE, TOKENIZER_KINDS, TOKENIZERS, UNIGRAM
from edge_embed.text.borders import (
    BEFORE_SPACE,
    CONTEXT,
    LETTERS,
    LONGEST,
    MARGIN,
    SEARCHED,
    SPACE,
    SPACES,
    between_words,
    common_beginning,
    run_length,
)


class ToBorder(NamedTuple):
    """The ids of a text up to a border: a place that no token spans, whatever precedes or follows the text.

    Attributes:
        ids: The ids of what precedes the border.
        border: The place of the border, in characters.
        before: The place of an earlier border, or 0 for the start of the text.
    """

    ids: list[int]
    border: int
    before: int


class Tokenizer(Protocol):
    """Turns text into content ids: nothing is added around them."""

    def encode(self, text: str) -> list[int]:
        """Returns the ids of `text`. Special tokens spelled out in the text become their ids."""
        ...

    @property
    def joins_words(self) -> bool:
        """Whether the ids of a text may differ from those of its words, one after the other."""
        ...

    def encode_to_border(self, text: str) -> ToBorder | None:
        """Returns the ids up to a border near the end of `text`, or None if no border was found."""
        ...

    def encode_beginning(self, text: str, count: int) -> list[int]:
        """Returns ids with which every text begins that begins with `text`; none if fewer than `count`."""
        ...

    def skippable(self, text: str, rest: str, place: int) -> int:
        """Returns how many characters of `rest`, from `place` on, change no id if they follow `text`."""
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


class _SentencePiece:
    """SentencePiece, BPE or Unigram.

    Borders: a piece is a string of the vocabulary, so that no token spans two adjacent characters that are
    adjacent in no piece. The vocabulary is searched as the bytes of the model file, which contain each piece
    as it is.
    """

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
        self._model: bytes | None = None
        self._pieces: bytes | None = None
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

    def encode_to_border(self, text: str) -> ToBorder | None:
        places = self._borders(text)
        border = next(places, 0)
        if not border:
            return None
        before = next((place for place in places if place < border), 0)
        return ToBorder(self.encode(text[:border]), border, before)

    def encode_beginning(self, text: str, count: int) -> list[int]:
        region = text[-2 * CONTEXT - LONGEST :]
        if not self._is_normal(region) or not (longest := self._longest_piece_in(region)):
            return []
        return common_beginning(self, text, count, longest)

    def _is_normal(self, text: str) -> bool:
        """Returns whether each character of `text` stays one character, whatever is around it."""
        if not self._keeps_spaces and not text.isalnum():
            return False
        if self._lowercase and text.lower() != text:
            return False
        shown = text.replace(" ", SPACE)
        return self._normalize(text) == shown == "".join(map(self._normalize, text))

    def skippable(self, text: str, rest: str, place: int) -> int:
        return 0 if self._keeps_spaces else run_length(SPACES, 2, text, rest, place)

    def _borders(self, text: str) -> Iterator[int]:
        """Yields borders from the end of a text backwards, those at spaces first."""
        high = len(text) - MARGIN
        low = max(high - SEARCHED, 1)
        near = BEFORE_SPACE.finditer(text, max(high - 8 * SEARCHED, 1), max(high, 1))
        spaces = [found.end() for found in near][-SEARCHED:]
        # The model file is at hand and contains each piece, but also pairs of letters that are in none.
        for collect in (self._read_model, self._read_pieces):
            pieces = collect()
            found = False
            for place in itertools.chain(reversed(spaces), range(high, low, -1)):
                if self._is_border(text, place, pieces):
                    found = True
                    yield place
            if found:
                return

    def _is_border(self, text: str, place: int, pieces: bytes) -> bool:
        left, right = text[max(place - CONTEXT, 0) : place], text[place : place + CONTEXT]
        join = ""
        if not self._keeps_spaces:  # what the normalizer does to spaces must be known without their context
            left, right = left.lstrip(), right.rstrip()
            if right.startswith(" "):
                join, right = SPACE, right[1:]
            if not left or not right or left[-1].isspace() or right[0].isspace():
                return False
        if self._lowercase and not text[place].isspace() and "Σ" in text:
            return False  # its lowercase depends on whether the word goes on
        if any(text[place - 1 : place + 1] in special for special in self._special):
            return False
        first, second = self._normalize(left), self._normalize(right)
        whole = self._normalize(left + (" " if join else "") + right)
        if not first or not second or whole != first + join + second:
            return False
        return (first[-1] + (join or second[0])).encode() not in pieces

    def _normalize(self, text: str) -> str:
        text = text.lower() if self._lowercase else text
        normalized: str = self._processor.Normalize(text)
        return normalized.removeprefix(self._start)

    @cached_property
    def _start(self) -> str:
        """What the normalizer puts before a text."""
        normalized: str = self._processor.Normalize("0")
        return normalized.removesuffix("0")

    @cached_property
    def _keeps_spaces(self) -> bool:
        """Whether the normalizer keeps each space of a run, and those at the end of a text."""
        normalized: str = self._processor.Normalize("0  0  ")
        return normalized == f"{self._start}0{SPACE * 2}0{SPACE * 2}"

    def _read_model(self) -> bytes:
        if self._model is None:
            self._model = bytes(self._processor.serialized_model_proto())
        return self._model

    def _read_pieces(self) -> bytes:
        if self._pieces is None:
            size = self._processor.GetPieceSize()
            groups = (range(start, min(start + 4096, size)) for start in range(0, size, 4096))
            pieces = ("\0".join(map(self._processor.IdToPiece, ids)).encode() for ids in groups)
            self._pieces = b"\0".join(pieces)
        return self._pieces

    def _longest_piece_in(self, text: str) -> int:
        """Returns the most characters that a piece can have in `text`; 0 if that is more than `LONGEST`."""
        text, model = self._normalize(text), self._read_model()
        for length in range(1, LONGEST):
            strings = {text[i : i + length + 1].encode() for i in range(len(text) - length)}
            if not any(string in model for string in strings):
                return length
        return 0


class _Unigram:
    """XLM-R's kind, see `unigram`.

    Borders: each word is segmented alone. Characters are normalized in clusters, so that only letters and
    digits count that never form one with a space.
    """

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

    def encode_to_border(self, text: str) -> ToBorder | None:
        near = between_words().finditer(text, max(len(text) - 8 * SEARCHED, 0), max(len(text) - MARGIN, 0))
        borders = [found.end() for found in near]
        if not borders:
            return None
        before = borders[-2] if len(borders) > 1 else 0
        return ToBorder(self.encode(text[: borders[-1]]), borders[-1], before)

    def encode_beginning(self, text: str, count: int) -> list[int]:
        return []  # how a word is segmented depends on all of it

    def skippable(self, text: str, rest: str, place: int) -> int:
        return 0


class _HuggingFace:
    """A tokenizer of the library `tokenizers`.

    Borders: its pre-tokenizer splits a text into words, and no token spans two words. Where a word ends
    depends on what follows it at once, so the last words of a text are left alone.
    """

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
        return list(self._encode(text).ids)

    def encode_to_border(self, text: str) -> ToBorder | None:
        lower = text.lower() if self._lowercase else text
        if len(lower) != len(text):
            return None  # places in the lowercase text are not places in the text
        encoding = self._encode(text)
        ids, words, ends = encoding.ids, encoding.word_ids, [end for _, end in encoding.offsets]
        last = bisect_right(ends, len(text) - MARGIN)
        borders = [i for i in range(1, min(last + 1, len(ids))) if words[i - 1] != words[i]]
        if self._lowercase and "Σ" in text:  # its lowercase depends on whether the word goes on
            borders = [i for i in borders if text[ends[i - 1]].isspace()]
        if not borders:
            return None
        index = borders[-1]
        border = ends[index - 1]
        before = next((ends[i - 1] for i in reversed(borders) if ends[i - 1] <= border - CONTEXT), 0)
        if self.encode(text[before:border])[-1:] != [ids[index - 1]]:
            return None
        return ToBorder(ids[:index], border, before)

    def encode_beginning(self, text: str, count: int) -> list[int]:
        model = self._tokenizer.model
        if type(model).__name__ not in ("BPE", "Unigram") or getattr(model, "end_of_word_suffix", None):
            return []  # there the whole word decides
        longest = self._longest_piece
        if not LETTERS.fullmatch(text, max(len(text) - longest - CONTEXT, 0)):
            return []  # a character may become several, or several one
        return common_beginning(self, text, count, longest)

    def skippable(self, text: str, rest: str, place: int) -> int:
        # A word longer than this is unknown, however long it is, and spaces only separate words.
        if self.joins_words:
            return 0
        limit = self._tokenizer.model.max_input_chars_per_word
        return run_length(LETTERS, 2 * limit, text, rest, place) or run_length(SPACES, 2, text, rest, place)

    def _encode(self, text: str) -> Any:
        return self._tokenizer.encode(text.lower() if self._lowercase else text, add_special_tokens=False)

    @cached_property
    def _longest_piece(self) -> int:
        return max(map(len, self._tokenizer.get_vocab()))


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
