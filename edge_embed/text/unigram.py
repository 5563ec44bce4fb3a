"""XLM-R's kind of tokenizer: a SentencePiece Unigram whose normalization is that of the tokenizers library.

sentence-transformers feeds such models with the ids of the `tokenizers` library, which differs from
SentencePiece's own reading of the same model in three ways. All three are followed here:

- It normalizes by grapheme clusters: a cluster shorter than six bytes is replaced as a whole. Its own
  normalizer is therefore used, on the map of characters that the model carries.
- It splits at whitespace and segments each word alone.
- It adds scores in double precision, where the sums are exact, and SentencePiece in single precision, where
  the order of a sum matters. This shows where the same pieces make up a word in several orders ("." and
  "..."). Such words are found by their pieces, and segmented once more in double precision.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

MARK = "\u2581"
"""What begins a word."""

_WHITESPACE = re.compile(r"[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
"""Unicode's White_Space; Python's own also counts control characters of files."""

_AS_IT_IS = bytes((0x1A, 6, 0x18, 0, 0x20, 0, 0x28, 0))
"""A normalizer_spec that adds no prefix, keeps spaces and escapes none: fields 3, 4 and 5 are false."""

_NORMALIZER, _TRAINER = 3, 2
_CHARSMAP, _LONGEST_PIECE, _CONTROL_SYMBOLS, _UNKNOWN_PIECE = 2, 20, 30, 45

_UNKNOWN_PENALTY = 10.0
"""How much lower an unknown character scores than the piece of the lowest score, in both libraries."""


class UnigramEncoder:
    """Turns text into ids.

    Args:
        data: A model with its normalizer_spec and trainer_spec ahead of its pieces.

    Raises:
        ValueError: If it is damaged. The SentencePiece library raises its own errors.
    """

    def __init__(self, data: bytes) -> None:
        from sentencepiece import SentencePieceProcessor  # only for files that need it
        from tokenizers import normalizers

        trainer, normalizer, start = _settings(data)
        charsmap = b"".join(value for number, value in _fields(normalizer) if number == _CHARSMAP)
        fields = list(_fields(trainer))
        unknown = next((value.decode() for number, value in fields if number == _UNKNOWN_PIECE), "<unk>")
        names = [unknown, *(value.decode() for number, value in fields if number == _CONTROL_SYMBOLS)]
        processor = SentencePieceProcessor()
        processor.LoadFromSerializedProto(_field(_TRAINER, trainer) + data[start:] + _AS_IT_IS)
        self.size = int(processor.GetPieceSize())
        self._processor: Any = processor
        self._normalize = normalizers.Precompiled(charsmap).normalize_str
        self._special = {name: int(processor.PieceToId(name)) for name in names}
        longest_first = sorted(names, key=len, reverse=True)
        self._pattern = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
        self._unknown = self._special[unknown]
        self._longest = max(_varint(value, 0)[0] for number, value in fields if number == _LONGEST_PIECE)
        self._least: float | None = None

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text; special tokens that it spells become their ids."""
        ids: list[int] = []
        for index, part in enumerate(self._pattern.split(text)):
            if index % 2:
                ids.append(self._special[part])
            elif part:
                for word in _WHITESPACE.split(self._normalize(part)):
                    if word:
                        ids += self._word(word if word.startswith(MARK) else MARK + word)
        return ids

    def _word(self, word: str) -> list[int]:
        if not self._pattern.search(word):
            return self._segment(word)
        # Normalization may spell a special token, whose score outweighs all others'.
        ids: list[int] = []
        for index, part in enumerate(self._pattern.split(word)):
            new = [self._special[part]] if index % 2 else self._segment(part)
            if ids and new and ids[-1] == new[0] == self._unknown:
                new = new[1:]  # a run of unknown pieces is one
            ids += new
        return ids

    def _segment(self, word: str) -> list[int]:
        """Returns the pieces of a word, or of a part of one, with the greatest sum of scores."""
        ids: list[int] = self._processor.EncodeAsIds(word)
        if len(ids) > 2 and self._has_other_order(word, ids):
            return self._exact(word)
        return ids

    def _has_other_order(self, word: str, ids: list[int]) -> bool:
        """Returns whether the pieces of a word may make it up in another order too.

        Where two orders part, the piece of the one begins with the piece of the other.
        """
        pieces = [self._processor.IdToPiece(i) for i in ids]
        by_start: dict[str, set[str]] = {}
        for piece in pieces:
            by_start.setdefault(piece[0], set()).add(piece)
        if len(by_start) == len(pieces):
            return False
        start = 0
        for index, piece in zip(ids, pieces, strict=True):
            if index == self._unknown:
                return True  # its length is not known
            if any(other != piece and word.startswith(other, start) for other in by_start[piece[0]]):
                return True
            start += len(piece)
        return False

    def _exact(self, word: str) -> list[int]:
        """Segments as the tokenizers library does: in double precision, the first found among equals."""
        lookup, score = self._processor.PieceToId, self._processor.GetScore
        best: list[tuple[float, int, int] | None] = [(0.0, 0, 0)] + [None] * len(word)
        for start in range(len(word)):
            here = best[start]
            if here is None:
                continue
            single = False
            for end in range(start + 1, min(start + self._longest, len(word)) + 1):
                index = lookup(word[start:end])
                if index == self._unknown:
                    continue
                single |= end == start + 1
                found, total = best[end], here[0] + score(index)
                if found is None or total > found[0]:
                    best[end] = (total, start, index)
            if not single:
                found, total = best[start + 1], here[0] + self._unknown_score()
                if found is None or total > found[0]:
                    best[start + 1] = (total, start, self._unknown)
        ids: list[int] = []
        end = len(word)
        while end > 0:
            _, start, index = best[end] or (0.0, end - 1, self._unknown)
            if not ids or index != self._unknown or ids[-1] != index:  # a run of unknown pieces is one
                ids.append(index)
            end = start
        return ids[::-1]

    def _unknown_score(self) -> float:
        """Returns the score of an unknown character."""
        if self._least is None:
            every = range(self.size)
            self._least = min(map(self._processor.GetScore, every)) - _UNKNOWN_PENALTY
        return self._least


def _settings(data: bytes) -> tuple[bytes, bytes, int]:
    """Returns the trainer_spec, the normalizer_spec, and where what follows them begins."""
    found: dict[int, bytes] = {}
    start = 0
    for _ in range(2):
        number, value, start = _next_field(data, start)
        found[number] = value
    if set(found) != {_TRAINER, _NORMALIZER}:
        raise ValueError("the settings of the model do not come first")
    return found[_TRAINER], found[_NORMALIZER], start


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start < len(data):
        number, value, start = _next_field(data, start)
        yield number, value


def _next_field(data: bytes, start: int) -> tuple[int, bytes, int]:
    """Returns a protobuf field's number and content, and where the next one begins."""
    key, start = _varint(data, start)
    wire = key & 7
    if wire == 0:
        end = _varint(data, start)[1]
        return key >> 3, data[start:end], end
    if wire == 2:
        size, start = _varint(data, start)
    else:
        size = {1: 8, 5: 4}.get(wire, -1)
    if size < 0 or start + size > len(data):
        raise ValueError("a field is cut")
    return key >> 3, data[start : start + size], start + size


def _varint(data: bytes, start: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if start >= len(data):
            raise ValueError("a field is cut")
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
    raise ValueError("a number is too long")


def _field(number: int, value: bytes) -> bytes:
    size, head = len(value), bytearray([number << 3 | 2])
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head) + value
