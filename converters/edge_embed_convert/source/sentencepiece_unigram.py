"""A `tokenizer.json` of a Unigram under SentencePiece's map of characters, written as a SentencePiece model.

That is XLM-R's tokenizer and its descendants'. Loading 250,000 pieces takes `tokenizers` a second and
hundreds of megabytes, SentencePiece a fraction of both. `edge_embed/text/unigram.py` reads what is written
here, and says what it does that the SentencePiece library alone does not.

The fields are those of sentencepiece_model.proto. The normalizer and the trainer's settings come first in the
file, ahead of the pieces, so that the runtime finds them without parsing the pieces. Read by the library
alone, the model tokenizes usual text alike.
"""

from __future__ import annotations

import base64
import struct
from typing import Any

from edge_embed_convert.source.sentencepiece_bpe import SPACE
from edge_embed_convert.source.sentencepiece_schema import schema

_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3
_UNIGRAM = 1
_PRE_TOKENIZER = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "WhitespaceSplit"},
        {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True},
    ],
}


def is_unigram(spec: dict[str, Any]) -> bool:
    """Returns whether a parsed tokenizer.json can become a SentencePiece Unigram model."""
    return bool(spec["model"].get("type") == "Unigram")


def why_not(spec: dict[str, Any]) -> str | None:
    """Returns what keeps a Unigram from an exact SentencePiece form, None if nothing does.

    Args:
        spec: A parsed tokenizer.json.
    """
    model, added = spec["model"], spec["added_tokens"]
    vocabulary = model["vocab"]
    names = [text for text, _ in vocabulary]
    ids = dict(enumerate(names))
    reasons = (
        (model.get("byte_fallback"), "its model falls back to bytes"),
        (_charsmap(spec) is None, "its normalizer does other than SentencePiece's map of characters"),
        (spec.get("pre_tokenizer") != _PRE_TOKENIZER, "its pre-tokenizer is not XLM-R's"),
        (model.get("unk_id") is None, "it has no unknown token"),
        (len(set(names)) < len(names), "it has a piece twice"),
        (any(SPACE in text[1:] for text in names), "it has pieces of several words"),
        (
            any(struct.unpack("<f", struct.pack("<f", score))[0] != score for _, score in vocabulary),
            "its scores are not numbers of float32",
        ),
        (
            any(token["normalized"] or token["single_word"] for token in added),
            "an added token is looked for in normalized text or as a whole word",
        ),
        (
            any(ids.get(token["id"], token["content"]) != token["content"] for token in added),
            "an added token has the id of another piece",
        ),
        (
            sorted({token["id"] for token in added} | set(ids))
            != list(range(len(set(ids) | {token["id"] for token in added}))),
            "its ids have gaps",
        ),
    )
    return next((reason for found, reason in reasons if found), None)


def build(spec: dict[str, Any]) -> bytes:
    """Returns the SentencePiece model, with the same ids.

    Args:
        spec: A parsed tokenizer.json for which `why_not` found nothing.

    Raises:
        MissingExtraError: If protobuf is not installed.
    """
    vocabulary, unknown = spec["model"]["vocab"], spec["model"]["unk_id"]
    added = {token["id"]: token["content"] for token in spec["added_tokens"]}
    pieces = schema().ModelProto()
    for index, (text, score) in enumerate(vocabulary):
        kind = _UNKNOWN if index == unknown else _CONTROL if index in added else _NORMAL
        pieces.pieces.add(piece=text, score=score, type=kind)
    for index in range(len(vocabulary), 1 + max(added, default=-1)):
        pieces.pieces.add(piece=added[index], score=0.0, type=_CONTROL)
    settings = schema().ModelProto()
    normalizer, trainer = settings.normalizer_spec, settings.trainer_spec
    normalizer.name = "nmt_nfkc"
    normalizer.precompiled_charsmap = _charsmap(spec)
    normalizer.add_dummy_prefix = True
    normalizer.remove_extra_whitespaces = True
    normalizer.escape_whitespaces = True
    trainer.model_type = _UNIGRAM
    trainer.vocab_size = len(pieces.pieces)
    trainer.max_sentencepiece_length = max(len(piece.piece) for piece in pieces.pieces)
    trainer.unk_piece = vocabulary[unknown][0]
    trainer.control_symbols.extend(text for index, text in sorted(added.items()) if index != unknown)
    parts = (settings, pieces)  # a message is the sum of its parts, in any order
    return b"".join(part.SerializeToString(deterministic=True) for part in parts)


def build_if_exact(spec: dict[str, Any]) -> tuple[bytes | None, str]:
    """Returns the SentencePiece model, None if there is no exact one, and what to say of it."""
    reason = why_not(spec)
    if reason is not None:
        return None, f"not SentencePiece from tokenizer.json: {reason}"
    return build(spec), "SentencePiece Unigram from tokenizer.json"


def vocabulary_texts(spec: dict[str, Any]) -> list[str]:
    """Returns every added token as a text of its own, within a word, between spaces, and in wide letters."""
    texts: list[str] = []
    for token in spec["added_tokens"]:
        content = token["content"]
        wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in content)
        texts += [content, f"a{content}b", f" a {content} {content}b", content * 2, wide, f"a{wide}b"]
    return texts


def _charsmap(spec: dict[str, Any]) -> bytes | None:
    """Returns the map of characters where it is all that the normalizer does."""
    normalizer = spec.get("normalizer") or {}
    if normalizer.get("type") == "Sequence" and len(normalizer["normalizers"]) == 1:
        normalizer = normalizer["normalizers"][0]
    if normalizer.get("type") != "Precompiled":
        return None
    return base64.b64decode(normalizer["precompiled_charsmap"])
