"""Tokenizer: which file goes into the model file, and proof that it gives the ids of the checkpoint's own.

Gemma's `tokenizer.json` takes a second and hundreds of megabytes to load; the same tokenizer as a
SentencePiece model takes milliseconds. So a BPE with byte fallback is written as a SentencePiece BPE model,
but only where that is exact. Two things stand between the formats:

- SentencePiece ranks pieces, `tokenizers` ranks merges. They choose alike when every way to split a piece
  into two pieces is a merge and the merges of two pieces do not interleave; this is checked on all merges
  but those of runs of one character, whose lengths are compared instead.
- SentencePiece cannot tell a written U+2581 from a space. Where two or more of them in a row are an added
  token, a text that puts such a row beside a space gets the id of one longer run. That is
  the one known difference; the note of a conversion states it, and no built-in text holds it.

Everything else is compared token for token on `HOSTILE_TEXTS`, on texts made from the vocabulary itself,
and on the caller's. Any difference keeps `tokenizer.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_embed._manifest import TokenizerRecord
from edge_embed._tokenizer import load_tokenizer
from edge_embed.errors import CheckpointError, EdgeEmbedError
from edge_embed_convert import sentencepiece_bpe
from edge_embed_convert.tokenizer_texts import HOSTILE_TEXTS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILES = ("tokenizer.json", "tokenizer.model", "vocab.txt")
"""The tokenizer files that can be read, in the order they are looked for."""

_Ids = Callable[[str], list[int]]
_Around = tuple[list[int], list[int]]
"""The ids before and after every text."""


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
    config: dict[str, Any]
    lowercase: bool
    rows: int

    def record(self, kind: str, data: bytes, pad: int, around: _Around) -> TokenizerRecord:
        return TokenizerRecord(
            file="tokenizer.model" if kind == "sentencepiece" else "tokenizer.json",
            kind=kind,
            sha256=hashlib.sha256(data).hexdigest(),
            lowercase=self.lowercase,
            pad_id=pad,
            prefix_ids=list(around[0]),
            suffix_ids=list(around[1]),
            vocab_size=self.rows,
        )


def convert_tokenizer(
    directory: Path, *, lowercase: bool | None = None, extra_texts: Sequence[str] = ()
) -> ConvertedTokenizer:
    """Chooses the lightest tokenizer file that gives exactly the checkpoint's ids.

    Args:
        directory: Directory of the encoder's config.json and tokenizer files.
        lowercase: Whether text is lowercased first; by default what sentence_bert_config.json says.
        extra_texts: Texts to compare on beside `HOSTILE_TEXTS`, for instance the prompts.

    Raises:
        CheckpointError: If no tokenizer can be read, it can produce ids beyond the embedding table, or it
            puts ids around a text in a way that a fixed prefix and suffix cannot express.
    """
    checkpoint = _checkpoint(directory, lowercase)
    files = {name: directory / name for name in FILES if (directory / name).is_file()}
    if "tokenizer.json" in files:
        source = _read_bytes(files["tokenizer.json"])
    elif "tokenizer.model" in files:
        return _keep_model(checkpoint)
    elif "vocab.txt" in files:
        source = _from_vocabulary(directory)
    else:
        raise CheckpointError(
            f"{directory} has no tokenizer",
            got="none of the files",
            expected=" or ".join(FILES),
            fix="copy the tokenizer's files from the original checkpoint",
        )
    own_model = _read_bytes(files["tokenizer.model"]) if "tokenizer.model" in files else None
    return _from_json(checkpoint, source, own_model, extra_texts)


def _checkpoint(directory: Path, lowercase: bool | None) -> _Checkpoint:
    config = _read_object(directory / "config.json")
    rows = config.get("vocab_size")
    if not isinstance(rows, int) or isinstance(rows, bool) or rows < 1:
        raise CheckpointError(
            "config.json does not say how many ids the model knows",
            got=f"vocab_size = {rows!r}",
            expected="the number of rows of the embedding table",
            fix="copy config.json from the original checkpoint",
        )
    if lowercase is None:
        settings = _read_object(directory / "sentence_bert_config.json")
        lowercase = bool(settings.get("do_lower_case", False))
    return _Checkpoint(directory, config, lowercase, rows)


def _from_json(
    checkpoint: _Checkpoint, source: bytes, own_model: bytes | None, extra_texts: Sequence[str]
) -> ConvertedTokenizer:
    tokenizer = _open(source, checkpoint.directory / "tokenizer.json")
    spec = json.loads(source)
    dropped = _drop_unusable(spec, set(tokenizer.get_vocab(False)), checkpoint.rows)
    around = _surroundings(tokenizer)
    usable = (i for token, i in tokenizer.get_vocab(True).items() if token not in dropped)
    _check_ids((*usable, *around[0], *around[1]), checkpoint.rows)
    pad = _pad_id(checkpoint, tokenizer.token_to_id, around)

    def expected(text: str) -> list[int]:
        text = text.lower() if checkpoint.lowercase else text
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    texts = [t for t in (*HOSTILE_TEXTS, *extra_texts) if not any(token in t for token in dropped)]
    if sentencepiece_bpe.is_byte_fallback_bpe(spec):
        texts += sentencepiece_bpe.vocabulary_texts(spec)
    notes = [f"left out {token}, which the embedding table has no row for" for token in sorted(dropped)]
    for kind, data, note in _forms(spec, source, own_model, dropped):
        if data is None:
            notes.append(note)
            continue
        record = checkpoint.record(kind, data, pad, around)
        problem = _difference(record, data, expected, texts)
        if problem is None:
            return ConvertedTokenizer(
                record, data, "; ".join([f"{note} ({len(texts)} texts compared)", *notes])
            )
        notes.append(f"not {note}: {problem}")
    raise CheckpointError(
        "no form of the tokenizer gives the checkpoint's own ids",
        got="; ".join(notes),
        expected="the same ids",
    )


def _forms(
    spec: dict[str, Any], source: bytes, own_model: bytes | None, dropped: set[str]
) -> Iterator[tuple[str, bytes | None, str]]:
    """Yields the forms the tokenizer could be carried in, the lightest first: kind, content, description."""
    if sentencepiece_bpe.is_byte_fallback_bpe(spec):
        if own_model is not None:
            yield "sentencepiece", own_model, "tokenizer.model as it came"
        reason = sentencepiece_bpe.why_not(spec)
        if reason is None:
            remarks = "".join(f", in which {remark}" for remark in sentencepiece_bpe.remarks(spec))
            yield (
                "sentencepiece",
                sentencepiece_bpe.build(spec),
                f"SentencePiece from tokenizer.json{remarks}",
            )
        else:
            yield "sentencepiece", None, f"not SentencePiece from tokenizer.json: {reason}"
    yield "tokenizers", _minified(spec), "tokenizer.json, minified"
    if not dropped:
        yield "tokenizers", source, "tokenizer.json as it came"


def _difference(record: TokenizerRecord, data: bytes, expected: _Ids, texts: Iterable[str]) -> str | None:
    """Returns the first text on which the runtime would get other ids than expected, with both."""
    try:
        encode = load_tokenizer(record, data).encode
    except EdgeEmbedError as error:
        return f"{error.what} ({error.got})"
    for text in texts:
        got, wanted = encode(text), expected(text)
        if got != wanted:
            shown = text if len(text) <= 60 else f"{text[:57]}..."
            return f"{shown!r} gives {got[:12]}, and the checkpoint's own {wanted[:12]}"
    return None


def _open(data: bytes, file: Path) -> Tokenizer:
    from tokenizers import Tokenizer  # noqa: PLC0415 - the conversion's other steps work without it

    try:
        tokenizer = Tokenizer.from_buffer(data)
    except Exception as error:
        # Its errors are bare Exceptions: nothing narrower can be caught.
        raise _unreadable(file, error) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _unreadable(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"cannot read the tokenizer {file}",
        got=str(error)[:200],
        expected=f"one of {', '.join(FILES)}, complete",
        fix="copy the file again (a Git LFS pointer or a cut download looks like this)",
    )


def _from_vocabulary(directory: Path) -> bytes:
    """Returns tokenizer.json for a checkpoint older than it, as transformers builds it."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - two seconds, and only old checkpoints need it

    file = directory / "vocab.txt"
    try:
        backend = AutoTokenizer.from_pretrained(directory, local_files_only=True).backend_tokenizer
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"transformers cannot build a tokenizer from {file}", got=str(error)[:200],
            fix="save the tokenizer once with AutoTokenizer.from_pretrained(...).save_pretrained(...)",
        ) from error  # fmt: skip
    # transformers falls back to a handful of special tokens when it does not take the file.
    lines = _read_bytes(file).decode("utf-8", "replace").rstrip("\r\n").split("\n")
    if any(backend.token_to_id(lines[i].strip()) != i for i in (0, len(lines) // 2, len(lines) - 1)):
        raise CheckpointError(
            f"transformers did not take the vocabulary of {file}",
            got=f"{backend.get_vocab_size()} tokens", expected=f"{len(lines)}",
        )  # fmt: skip
    return bytes(backend.to_str(), "utf-8")


def _keep_model(checkpoint: _Checkpoint) -> ConvertedTokenizer:
    """Takes a checkpoint's only tokenizer, a SentencePiece model, as it is."""
    import sentencepiece  # noqa: PLC0415

    file = checkpoint.directory / "tokenizer.model"
    data = _read_bytes(file)
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(data)
        size = int(processor.GetPieceSize())
    except RuntimeError as error:
        raise _unreadable(file, error) from error
    _check_ids([size - 1], checkpoint.rows)
    settings = _read_object(checkpoint.directory / "tokenizer_config.json")
    around: list[list[int]] = []
    for name, special in (("bos", processor.bos_id()), ("eos", processor.eos_id())):
        wanted = settings.get(f"add_{name}_token")
        if not isinstance(wanted, bool) or (wanted and special < 0):
            raise CheckpointError(
                f"it is not known whether the tokenizer adds {name.upper()}",
                got=f"add_{name}_token {wanted!r} in tokenizer_config.json, id {special} in tokenizer.model",
                expected="true with an id, or false",
                fix="restore tokenizer_config.json, or add the checkpoint's tokenizer.json",
            )
        around.append([special] if wanted else [])

    def find(token: str) -> int | None:
        found = int(processor.PieceToId(token))
        return found if processor.IdToPiece(found) == token else None

    pad = _pad_id(checkpoint, find, (around[0], around[1]), processor.pad_id())
    record = checkpoint.record("sentencepiece", data, pad, (around[0], around[1]))
    return ConvertedTokenizer(record, data, "tokenizer.model as it came (no tokenizer.json to compare with)")


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
        extra = len(whole) - len(content)
        here = [
            (whole[:k], whole[k + len(content) :])
            for k in range(extra + 1)
            if whole[k : k + len(content)] == content
        ]
        candidates = here if candidates is None else [pair for pair in candidates if pair in here]
        if not candidates:
            raise CheckpointError(
                "the tokenizer's special tokens are not a fixed prefix and suffix",
                got=f"{whole[:12]} for {text[:40]!r}, whose own ids are {content[:12]}",
                expected="the same ids before and after every text",
            )
    return candidates[0] if candidates else ([], [])


def _pad_id(
    checkpoint: _Checkpoint, find: Callable[[str], int | None], around: _Around, fallback: int = -1
) -> int:
    # The tokenizer's own word comes first: transformers writes BERT's default, 0, into every config.json.
    pad = None
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if pad is None:
            token = _read_object(checkpoint.directory / name).get("pad_token")
            content = token.get("content") if isinstance(token, dict) else token
            pad = find(content) if isinstance(content, str) else None
    if pad is None:
        pad = checkpoint.config.get("pad_token_id")
    pad = fallback if pad is None else pad
    if not isinstance(pad, int) or isinstance(pad, bool) or not 0 <= pad < checkpoint.rows:
        problem = f"an id from 0 to {checkpoint.rows - 1}"
    elif pad in around[0] or pad in around[1]:
        problem = f"an id that is not put around every text, as {around[0]} and {around[1]} are"
    else:
        return pad
    raise CheckpointError(
        "the checkpoint names no usable pad id, by which the graph tells padding from text",
        got=f"{pad!r} from config.json, tokenizer_config.json or special_tokens_map.json",
        expected=problem,
        fix="set pad_token_id in config.json",
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


def _read_object(file: Path) -> dict[str, Any]:
    """Returns a settings file's content, empty if the checkpoint has none."""
    if not file.is_file():
        return {}
    try:
        value = json.loads(_read_bytes(file))
    except ValueError as error:
        raise CheckpointError(f"{file} is not valid JSON", got=str(error)) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} is not a JSON object", got=type(value).__name__)
    return value
