"""Tokenizer: which file goes into the model file, and proof that it gives the ids of the checkpoint's own.

The checkpoint's own ids are those that sentence-transformers feeds the model with (see loaded_tokenizer.py).

Gemma's `tokenizer.json` takes a second and hundreds of megabytes to load; the same tokenizer as a
SentencePiece model takes milliseconds. So a BPE with byte fallback is written as a SentencePiece BPE model,
but only where that is exact. Two things stand between the formats:

- SentencePiece ranks pieces, `tokenizers` ranks merges. They choose alike when every way to split a piece
  into two pieces is a merge and the merges of two pieces do not interleave; this is checked on all merges
  but those of runs of one character, whose lengths are compared instead.
- SentencePiece cannot tell a written U+2581 from a space. Where two or more of them in a row are an added
  token, a text that puts such a row beside a space gets the id of one longer run. That is
  the one known difference; the note of a conversion states it, and no built-in text holds it.

A Unigram under SentencePiece's map of characters (XLM-R's) becomes a SentencePiece Unigram model; see
sentencepiece_unigram.py.

Everything is compared token for token on `HOSTILE_TEXTS`, on texts made from the vocabulary itself,
and on the caller's. Any difference keeps `tokenizer.json`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_embed.errors import CheckpointError
from edge_embed.model_file.manifest import TokenizerRecord
from edge_embed.names import SENTENCEPIECE, TOKENIZERS, UNIGRAM
from edge_embed_convert.source import sentencepiece_bpe, sentencepiece_unigram
from edge_embed_convert.source.files import TOKENIZER_FILES, read_optional
from edge_embed_convert.source.loaded_tokenizer import load_tokenizer
from edge_embed_convert.source.sentencepiece_bpe import Ids, difference
from edge_embed_convert.source.settings import read_settings
from edge_embed_convert.source.static import read_static_tokenizer
from edge_embed_convert.source.tokenizer_texts import HOSTILE_TEXTS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_Around = tuple[list[int], list[int]]
"""The ids before and after every text."""

_PAD = re.compile(r"[<\[]\|?pad(ding)?\|?[>\]]", re.IGNORECASE)
_UNUSED = re.compile(r"[<\[]unused_?\d+[>\]]")


@dataclass(frozen=True)
class ConvertedTokenizer:
    """The tokenizer as the model file carries it.

    Attributes:
        record: The manifest's entry.
        data: Content of the zip member `record.file`.
        note: What was chosen, and why where it is not the lightest form.
    """

    record: TokenizerRecord
    data: bytes
    note: str


@dataclass(frozen=True)
class _Checkpoint:
    """What the checkpoint says beside its tokenizer files."""

    directory: Path
    config: Mapping[str, Any]
    lowercase: bool
    rows: int
    padding_shifts: bool
    own_pad: bool = False
    """Whether the table has one more row, which pads and which no text reaches."""

    def record(self, kind: str, data: bytes, pad: int, around: _Around) -> TokenizerRecord:
        return TokenizerRecord(
            file="tokenizer.json" if kind == TOKENIZERS else "tokenizer.model",
            kind=kind,
            sha256=hashlib.sha256(data).hexdigest(),
            lowercase=False,  # carried in the normalizer: str.lower() writes a last sigma another way
            pad_id=pad,
            prefix_ids=list(around[0]),
            suffix_ids=list(around[1]),
            vocab_size=self.rows + self.own_pad,
            # What follows a text tells the graph where it ends.
            sees_padding_tokens=bool(around[1]) and not self.padding_shifts,
        )


def convert_tokenizer(
    directory: Path,
    *,
    lowercase: bool | None = None,
    extra_texts: Sequence[str] = (),
    padding_shifts: bool = False,
    static: Mapping[str, Any] | None = None,
) -> ConvertedTokenizer:
    """Chooses the lightest tokenizer file that gives exactly the ids that sentence-transformers feeds.

    Args:
        directory: Directory of the encoder's config.json and tokenizer files.
        lowercase: Whether text is lowercased first; by default what sentence_bert_config.json says.
        extra_texts: Texts to compare on beside `HOSTILE_TEXTS`, for instance the prompts.
        padding_shifts: Whether a padding token that a text spells shifts the positions of those after it, as
            in RoBERTa, which the graph does not compute.
        static: The configuration of a static model, whose tokenizer is read without transformers.

    Raises:
        CheckpointError: If no tokenizer can be read, it can produce ids beyond the embedding table, or it
            puts ids around a text in a way that a fixed prefix and suffix cannot express.
    """
    if static is not None:
        rows = int(static["vocab_size"]) - 1
        bare = _Checkpoint(directory, static, lowercase=False, rows=rows, padding_shifts=False, own_pad=True)
        return _from_backend(bare, read_static_tokenizer(directory), rows, None, extra_texts)
    checkpoint = _checkpoint(directory, lowercase, padding_shifts)
    if not any((directory / name).is_file() for name in TOKENIZER_FILES):
        raise CheckpointError(
            f"{directory} has no tokenizer",
            got="none of the files",
            expected=" or ".join(TOKENIZER_FILES),
            fix="copy the tokenizer's files from the original checkpoint",
        )
    loaded = load_tokenizer(directory, lowercase=checkpoint.lowercase)
    if not loaded.is_fast:
        raise CheckpointError(
            "the tokenizer is written in Python, which a model file cannot carry",
            got=type(loaded).__name__,
            expected="a tokenizer of the tokenizers library",
            fix="save a tokenizer.json beside it",
        )
    if loaded.truncation_side != "right":
        raise CheckpointError(
            "the tokenizer keeps the end of a text that is too long",
            got=f"truncation_side = {loaded.truncation_side!r}",
            expected="'right', which keeps its beginning, as the runtime does",
            fix="change it in tokenizer_config.json and tokenizer.json, if the model may read beginnings",
        )
    if padding_shifts:
        _check_shifting_pad(checkpoint, loaded.pad_token_id)
    tokenizer = loaded.backend_tokenizer
    tokenizer.no_padding()
    tokenizer.no_truncation()
    _check_vocabulary(directory, tokenizer)
    own = directory / "tokenizer.model"
    own_model = _read_bytes(own) if own.is_file() else None
    return _from_backend(checkpoint, tokenizer, loaded.pad_token_id, own_model, extra_texts)


def _check_shifting_pad(checkpoint: _Checkpoint, declared: int | None) -> None:
    """Refuses a pad id of which tokenizer and model have different opinions.

    The model counts positions from its own, and passes over it wherever a text produces it.
    """
    own = checkpoint.config.get("pad_token_id", 1)
    if declared is not None and own != declared:
        raise CheckpointError(
            "the tokenizer pads with another token than the model counts its positions from",
            got=f"{declared}, and pad_token_id = {own!r} in config.json",
            expected="the same id",
            fix="use the tokenizer that the checkpoint was trained with",
        )


def _checkpoint(directory: Path, lowercase: bool | None, padding_shifts: bool) -> _Checkpoint:
    config = read_optional(directory / "config.json")
    rows = config.get("vocab_size")
    if not isinstance(rows, int) or isinstance(rows, bool) or rows < 1:
        raise CheckpointError(
            "config.json does not say how many token ids the model has",
            got=f"vocab_size = {rows!r}",
            expected="the number of rows of the embedding table",
            fix="copy config.json from the original checkpoint",
        )
    if lowercase is None:
        lowercase = read_settings(directory).lowercase
    return _Checkpoint(directory, config, lowercase, rows, padding_shifts)


def _from_backend(
    checkpoint: _Checkpoint,
    tokenizer: Tokenizer,
    declared_pad: int | None,
    own_model: bytes | None,
    extra_texts: Sequence[str],
) -> ConvertedTokenizer:
    spec = json.loads(tokenizer.to_str())
    dropped = _drop_unusable(spec, set(tokenizer.get_vocab(False)), checkpoint.rows)
    around = _surroundings(tokenizer)
    usable = (i for token, i in tokenizer.get_vocab(True).items() if token not in dropped)
    _check_ids((*usable, *around[0], *around[1]), checkpoint.rows)

    def expected(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    special = {t["id"] for t in spec.get("added_tokens") or [] if t["special"]}
    pieces = _Pieces(tokenizer.get_vocab(True), special, declared_pad, expected)
    pad = _pad_id(checkpoint, pieces, around)
    texts = [t for t in (*HOSTILE_TEXTS, *extra_texts) if not any(token in t for token in dropped)]
    if sentencepiece_bpe.is_byte_fallback_bpe(spec):
        texts += sentencepiece_bpe.vocabulary_texts(spec)
    if sentencepiece_unigram.is_unigram(spec):
        texts += sentencepiece_unigram.vocabulary_texts(spec)
    notes = [f"left out {token}, which the embedding table has no row for" for token in sorted(dropped)]
    for kind, data, note in _forms(spec, own_model):
        if data is None:
            notes.append(note)
            continue
        record = checkpoint.record(kind, data, pad, around)
        problem = difference(record, data, expected, texts)
        if problem is None:
            return ConvertedTokenizer(
                record, data, "; ".join([f"{note} ({len(texts)} texts compared)", *notes])
            )
        notes.append(f"not {note}: {problem}")
    raise CheckpointError(
        "no form of the tokenizer gives the same ids as the checkpoint's own",
        got="; ".join(notes),
        expected="the same ids",
    )


def _forms(spec: dict[str, Any], own_model: bytes | None) -> Iterator[tuple[str, bytes | None, str]]:
    """Yields the forms the tokenizer could be carried in, the lightest first: kind, content, description."""
    if sentencepiece_bpe.is_byte_fallback_bpe(spec):
        if own_model is not None:
            yield SENTENCEPIECE, own_model, "tokenizer.model as it came"
        yield SENTENCEPIECE, *sentencepiece_bpe.build_if_exact(spec)
    if sentencepiece_unigram.is_unigram(spec):
        yield UNIGRAM, *sentencepiece_unigram.build_if_exact(spec)
    yield TOKENIZERS, _minified(spec), "tokenizer.json, minified"


def _check_vocabulary(directory: Path, tokenizer: Tokenizer) -> None:
    """Checks that transformers took a vocabulary that comes without a tokenizer.json."""
    file = directory / "vocab.txt"
    if (directory / "tokenizer.json").is_file() or not file.is_file():
        return
    # transformers falls back to a handful of special tokens when it does not take the file.
    lines = _read_bytes(file).decode("utf-8", "replace").rstrip("\r\n").split("\n")
    if any(tokenizer.token_to_id(lines[i].strip()) != i for i in (0, len(lines) // 2, len(lines) - 1)):
        raise CheckpointError(
            f"transformers does not read one token from each line of {file}",
            got=f"{tokenizer.get_vocab_size()} tokens",
            expected=f"{len(lines)}",
        )


def _drop_unusable(spec: dict[str, Any], trained: set[str], rows: int) -> set[str]:
    """Removes special tokens that the model has no embedding for, and settings of batches.

    Text models cut out of multimodal ones keep such a token in their tokenizer; ours must never produce it.
    A token beyond the table that is not special is text, and stays to be refused.

    Returns:
        The tokens that were removed.
    """
    spec["padding"] = spec["truncation"] = None
    tokens = spec.get("added_tokens") or []
    dropped = {t["content"] for t in tokens if t["special"] and t["id"] >= rows} - trained
    spec["added_tokens"] = [t for t in tokens if t["content"] not in dropped]
    return dropped


def _check_ids(ids: Iterable[int], rows: int) -> None:
    largest = max(ids, default=-1)
    if largest >= rows:
        raise CheckpointError(
            "the tokenizer can produce ids that the model has no embedding for",
            got=f"id {largest}",
            expected=f"ids below {rows}, the vocab_size of config.json",
            fix="use the tokenizer that the checkpoint was trained with",
        )


def _surroundings(tokenizer: Tokenizer) -> _Around:
    """Returns the ids that the post-processor puts before and after every text."""
    candidates: list[_Around] | None = None
    for text in HOSTILE_TEXTS:
        whole = tokenizer.encode(text).ids
        content = tokenizer.encode(text, add_special_tokens=False).ids
        size = len(content)
        cuts = (k for k in range(len(whole) - size + 1) if whole[k : k + size] == content)
        here = [(whole[:k], whole[k + size :]) for k in cuts]
        candidates = here if candidates is None else [pair for pair in candidates if pair in here]
        if not candidates:
            raise CheckpointError(
                "the tokenizer's special tokens are not a fixed prefix and suffix",
                got=f"{whole[:12]} for {text[:40]!r}, whose own ids are {content[:12]}",
                expected="the same ids before and after every text",
            )
    return candidates[0] if candidates else ([], [])


@dataclass(frozen=True)
class _Pieces:
    """What the choice of the pad id asks of a tokenizer."""

    ids: dict[str, int]
    special: set[int]
    declared: int | None
    encode: Ids


def _pad_id(checkpoint: _Checkpoint, pieces: _Pieces, around: _Around) -> int:
    """Chooses the id by which the graph tells padding from text.

    The tokenizer's own word comes first: transformers writes a pad_token_id of 0 into a BERT's config.json
    whatever the vocabulary holds there.
    """
    if checkpoint.own_pad:
        return checkpoint.rows
    surrounding = {*around[0], *around[1]}
    names: dict[object, str] = {i: token for token, i in pieces.ids.items()}
    seen = [(text.lower(), set(pieces.encode(text))) for text in HOSTILE_TEXTS]

    def usable(pad: object) -> bool:
        if not isinstance(pad, int) or isinstance(pad, bool) or not 0 <= pad < checkpoint.rows:
            return False
        spelled = names.get(pad, "").lower()
        return pad not in surrounding and not any(pad in ids and spelled not in text for text, ids in seen)

    def unreachable(pad: int) -> bool:
        token = names.get(pad)
        return token is None or (bool(_UNUSED.fullmatch(token)) and pad not in pieces.encode(token))

    like_a_pad = [i for token, i in pieces.ids.items() if _PAD.fullmatch(token)]
    for pad in (pieces.declared, *sorted(like_a_pad, key=lambda i: (i not in pieces.special, i))):
        if pad is not None and usable(pad):
            return pad
    config = checkpoint.config.get("pad_token_id")
    # A word of the vocabulary, once it means padding, would be lost from every text.
    if config is not None and usable(config) and (unreachable(config) or config in pieces.special):
        return int(config)
    for pad in range(checkpoint.rows):
        if usable(pad) and unreachable(pad):
            return pad
    # Where other tokens end every text, the model sees a padding token that the text spells. So any special
    # token will do, if every text that has it spells it. Qwen ends texts with the token that it pads with.
    if around[1] and not checkpoint.padding_shifts:
        for i in sorted(pieces.special, key=lambda i: ("pad" not in names.get(i, "").lower(), i)):
            if usable(i):
                return i
    token = names.get(config) if isinstance(config, int) else None
    raise CheckpointError(
        "the checkpoint has no usable pad id, which the graph needs to tell padding from text",
        got=f"pad_token_id {config!r} ({token!r}) in config.json",
        expected=f"an id below {checkpoint.rows} that neither text nor the tokens around it can produce",
        fix="name the tokenizer's pad_token in tokenizer_config.json",
    )


def _minified(spec: dict[str, Any]) -> bytes:
    try:
        return json.dumps(spec, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        # A lone surrogate in a vocabulary is legal JSON but not UTF-8.
        return json.dumps(spec, separators=(",", ":")).encode("ascii")


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {file}", got=str(error)) from error
