"""A `tokenizer.json` of a BPE with byte fallback, written as a SentencePiece BPE model.

The fields are those of sentencepiece_model.proto. SentencePiece ranks pieces where `tokenizers` ranks
merges, so a merge's rank becomes the score of the piece that it makes; `why_not` tells when that loses
nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from edge_embed.errors import EdgeEmbedError
from edge_embed.model_file.manifest import TokenizerRecord
from edge_embed.text.tokenizers import load_tokenizer
from edge_embed_convert.source.sentencepiece_schema import schema

Ids = Callable[[str], list[int]]

SPACE = "\u2581"
"""What SentencePiece writes for a space."""

_BYTES = {f"<0x{value:02X}>" for value in range(256)}
_SPACE_TO_MARK = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_UNUSUAL = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6
_BPE = 2


def is_byte_fallback_bpe(spec: dict[str, Any]) -> bool:
    """Returns whether a parsed tokenizer.json is of the kind that can become a SentencePiece BPE model."""
    model = spec["model"]
    return model.get("type", "BPE") == "BPE" and bool(model.get("byte_fallback"))


def why_not(spec: dict[str, Any]) -> str | None:
    """Returns what keeps a byte-fallback BPE from an exact SentencePiece form, None if nothing does.

    Args:
        spec: A parsed tokenizer.json.
    """
    model, normalizer = spec["model"], spec.get("normalizer") or {}
    if normalizer.get("type") == "Sequence" and len(normalizer["normalizers"]) == 1:
        normalizer = normalizer["normalizers"][0]
    pieces, unusual = _pieces(spec), [key for key in _UNUSUAL if model.get(key)]
    minding = ("lstrip", "rstrip", "single_word")
    reasons = (
        (unusual, f"its model sets {', '.join(unusual)}"),
        (normalizer != _SPACE_TO_MARK, "its normalizer does other than replace spaces"),
        (not _never_splits(spec.get("pre_tokenizer")), "its pre-tokenizer splits words"),
        (
            any(token[key] for token in spec["added_tokens"] for key in minding),
            "an added token depends on what stands beside it",
        ),
        (not set(model["vocab"]) >= _BYTES, "it lacks byte tokens"),
        (model.get("unk_token") not in model["vocab"], "it has no unknown token"),
        (sorted(pieces) != list(range(len(pieces))), "its ids have gaps"),
    )
    return next((reason for found, reason in reasons if found), None) or _merge_trouble(spec)


def build(spec: dict[str, Any]) -> bytes:
    """Returns the SentencePiece model, with the same ids.

    The format has exactly one unknown piece and never finds its name in a text: a reader that wants the id
    of a spelled-out "<unk>", as the runtime of this project does, cuts the text there.

    Args:
        spec: A parsed tokenizer.json for which `why_not` found nothing.

    Raises:
        MissingExtraError: If protobuf is not installed.
    """
    ranks = {piece: first for piece, (first, _) in _rank_ranges(spec).items()}
    added = {token["content"] for token in spec["added_tokens"]}
    unknown = spec["model"]["unk_token"]
    proto = schema().ModelProto()
    for _, text in sorted(_pieces(spec).items()):
        kind = _UNKNOWN if text == unknown else _kind(text, added, ranks)
        score = -float(ranks.get(text, 0)) if kind == _NORMAL else 0.0
        proto.pieces.add(piece=text, score=score, type=kind)
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    trainer.model_type = _BPE
    trainer.vocab_size = len(proto.pieces)
    trainer.byte_fallback = True
    trainer.unk_piece = unknown
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = False
    normalizer.remove_extra_whitespaces = False
    normalizer.escape_whitespaces = True
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def build_if_exact(spec: dict[str, Any]) -> tuple[bytes | None, str]:
    """Returns the SentencePiece model, or None if there is no exact one, and a note about it."""
    reason = why_not(spec)
    if reason is not None:
        return None, f"not SentencePiece from tokenizer.json: {reason}"
    said = "".join(f", in which {remark}" for remark in remarks(spec))
    return build(spec), f"SentencePiece from tokenizer.json{said}"


def difference(record: TokenizerRecord, data: bytes, expected: Ids, texts: Iterable[str]) -> str | None:
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


def vocabulary_texts(spec: dict[str, Any]) -> list[str]:
    """Returns texts made from the vocabulary, where the two formats would part first.

    Every added token alone and within a word, with its spaces written either way; and every piece that
    can overlap itself, overlapping: there SentencePiece takes the leftmost and `tokenizers` the better merge.
    """
    texts: dict[str, None] = {}
    for token in spec["added_tokens"]:
        content = token["content"]
        for form in (content, content.replace(SPACE, " "), content.replace(" ", SPACE)):
            texts |= {form: None, f"a{form}b": None}
    for piece, splits in _split_counts(spec).items():
        if splits > 1:
            for size in range(1, len(piece)):
                if piece.endswith(piece[:size]):
                    texts[(piece + piece[size:]).replace(SPACE, " ")] = None
    return list(texts)


def remarks(spec: dict[str, Any]) -> list[str]:
    """Returns what a user should know of a model that `build` made."""
    runs = [t for t in spec["added_tokens"] if len(t["content"]) > 1 and set(t["content"]) == {SPACE}]
    return ["two or more U+2581 written beside a space count as spaces"] if runs else []


def _kind(text: str, added: set[str], ranks: dict[str, int]) -> int:
    if text in added:
        # An added run of U+2581 is also what merges make of spaces, and spaces are what texts hold.
        return _NORMAL if SPACE in text and text in ranks else _USER_DEFINED
    if text in _BYTES:
        return _BYTE
    # A piece that no merge makes never comes out of tokenizers; SentencePiece would find it.
    return _NORMAL if len(text) == 1 or text in ranks else _CONTROL


def _never_splits(pre_tokenizer: dict[str, Any] | None) -> bool:
    """Returns whether no text is split, given that no space is left in it."""
    if pre_tokenizer is None:
        return True
    return (
        pre_tokenizer["type"] == "Split"
        and pre_tokenizer["pattern"] == {"String": " "}
        and not pre_tokenizer.get("invert")
    )


def _pieces(spec: dict[str, Any]) -> dict[int, str]:
    added = {token["id"]: token["content"] for token in spec["added_tokens"]}
    return {index: text for text, index in spec["model"]["vocab"].items()} | added


def _merges(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for merge in spec["model"]["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left, right


def _rank_ranges(spec: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Returns for each piece that merges make the first and the last rank of those merges."""
    ranges: dict[str, tuple[int, int]] = {}
    for rank, (left, right) in enumerate(_merges(spec)):
        first, _ = ranges.get(left + right, (rank, rank))
        ranges[left + right] = (first, rank)
    return ranges


def _split_counts(spec: dict[str, Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for left, right in _merges(spec):
        counts[left + right] = counts.get(left + right, 0) + 1
    return counts


def _merge_trouble(spec: dict[str, Any]) -> str | None:
    vocab, counts = spec["model"]["vocab"], _split_counts(spec)
    for piece, count in counts.items():
        halves = sum(piece[:k] in vocab and piece[k:] in vocab for k in range(1, len(piece)))
        if halves != count:
            return f"only {count} of the {halves} ways to split {piece!r} in two are merges"
    # Runs of one character (Gemma's newlines, tabs and spaces) interleave by length; they only ever meet
    # runs of the same character, and the texts compared hold every length of them.
    spans = sorted((*span, piece) for piece, span in _rank_ranges(spec).items() if len(set(piece)) > 1)
    for (_, last, piece), (first, _, following) in itertools.pairwise(spans):
        if first < last:
            return f"the merges of {piece!r} and {following!r} interleave"
    return None
