"""Tokenizers with the size and kind of a released vocabulary, for checkpoints with random weights."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

GEMMA_VOCABULARY, BERT_VOCABULARY = 262144, 30522

_SPACE = "\u2581"
_LETTERS = "etaoinshrdlucmfwypvbgkjxqz"
_OTHERS = "0123456789.,:;!?'\"()-_/|\n" + _LETTERS.upper()

Files = dict[str, bytes]


def gemma_tokenizer_files(vocabulary: int = GEMMA_VOCABULARY) -> Files:
    """Returns a BPE with byte fallback, Gemma's special ids, and `vocabulary` pieces."""
    special = ("<pad>", "<eos>", "<bos>", "<unk>")
    fixed = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = list(itertools.islice(_pieces(), vocabulary - len(fixed)))
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": "<unk>",
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": {piece: i for i, piece in enumerate([*fixed, *pieces])},
        "merges": _merges(pieces),  # all of them, so that SentencePiece can carry it
    }
    spec = _spec(model, special, "<bos>", "<eos>")
    spec["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    settings = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return _files(spec, settings, 2048)


BERT_SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
ROBERTA_SPECIAL = {
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
"""Special tokens by role, in the order of their ids. RoBERTa's are XLM-R's and MPNet's as well."""


def bert_tokenizer_files(vocabulary: int = BERT_VOCABULARY, roles: Mapping[str, str] = BERT_SPECIAL) -> Files:
    """Returns a lowercasing WordPiece with `vocabulary` pieces.

    Args:
        vocabulary: Number of pieces.
        roles: Special tokens by role, in the order of their ids.
    """
    special = list(roles.values())
    plain = (p.replace(_SPACE, "") for p in _pieces())
    both = (form for p in plain if p and p == p.lower() for form in (p, f"##{p}"))
    pieces = itertools.islice(
        dict.fromkeys(itertools.islice(both, 3 * vocabulary)), vocabulary - len(special)
    )
    model = {
        "type": "WordPiece",
        "unk_token": roles["unk_token"],
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {piece: i for i, piece in enumerate([*special, *pieces])},
    }
    spec = _spec(model, special, roles["cls_token"], roles["sep_token"])
    spec["normalizer"] = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    }
    spec["pre_tokenizer"] = {"type": "BertPreTokenizer"}
    return _files(spec, roles, 512)


def unigram_tokenizer_files(vocabulary: int) -> Files:
    """Returns a Unigram model with `vocabulary` pieces and XLM-R's special ids."""
    roles, special = ROBERTA_SPECIAL, list(ROBERTA_SPECIAL.values())
    pieces = itertools.islice(_pieces(), vocabulary - len(special))
    scores = [[piece, -5.0 - number / vocabulary] for number, piece in enumerate(pieces)]
    model = {
        "type": "Unigram",
        "unk_id": special.index(roles["unk_token"]),
        "vocab": [*([token, 0.0] for token in special), *scores],
        "byte_fallback": False,
    }
    spec = _spec(model, special, roles["cls_token"], roles["sep_token"])
    spec["pre_tokenizer"] = {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": "always"}
    return _files(spec, roles, 512)


def byte_level_tokenizer_files(vocabulary: int, roles: Mapping[str, str], *, start: bool) -> Files:
    """Returns a byte-level BPE with `vocabulary` pieces.

    Args:
        vocabulary: Number of pieces.
        roles: Special tokens by role, in the order of their ids: `pad_token`, `eos_token`, and others.
        start: Whether the `bos_token` is put before every text; the `eos_token` is put after it.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet, space = sorted(ByteLevel.alphabet()), "\u0120"
    special = list(dict.fromkeys(roles.values()))
    longer = (p.replace(_SPACE, space) for p in _pieces() if len(p) > 1)
    pieces = list(itertools.islice(longer, vocabulary - len(special) - len(alphabet)))
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {piece: i for i, piece in enumerate([*special, *alphabet, *pieces])},
        "merges": _merges([*alphabet, *pieces]),
    }
    spec = _spec(model, special, roles["bos_token"] if start else None, roles["eos_token"])
    spec["pre_tokenizer"] = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    return _files(spec, roles, 8192)


def _merges(pieces: Sequence[str]) -> list[list[str]]:
    """Returns every way to split a piece into two pieces, as Gemma has them."""
    known = set(pieces)
    return [[p[:k], p[k:]] for p in pieces for k in range(1, len(p)) if p[:k] in known and p[k:] in known]


def _pieces() -> Iterator[str]:
    """Yields distinct pieces without end, short ones first. Every part of a piece comes before the piece."""
    yield from _SPACE + _LETTERS + _OTHERS
    for length in itertools.count(2):
        for letters in itertools.product(_LETTERS, repeat=length - 1):
            yield _SPACE + "".join(letters)
        for letters in itertools.product(_LETTERS, repeat=length):
            yield "".join(letters)


def _spec(model: dict[str, Any], special: Sequence[str], first: str | None, last: str) -> dict[str, Any]:
    """Returns a tokenizer.json that puts special tokens before and after every text."""
    added = [
        {
            "id": i,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i, token in enumerate(special)
    ]
    before, after = (
        [{"SpecialToken": {"id": token, "type_id": 0}}] if token else [] for token in (first, last)
    )
    text = [{"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B")]
    ids = {token: special.index(token) for token in (first, last) if token}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": None,
        "decoder": None,
        "model": model,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [*before, text[0], *after],
            "pair": [*before, *text, *after],
            "special_tokens": {t: {"id": t, "ids": [i], "tokens": [t]} for t, i in ids.items()},
        },
    }


def _files(spec: dict[str, Any], settings: Mapping[str, Any], limit: int) -> Files:
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": limit, **settings}
    return {
        "tokenizer.json": json.dumps(spec, ensure_ascii=False, separators=(",", ":")).encode(),
        "tokenizer_config.json": json.dumps(config).encode(),
    }
