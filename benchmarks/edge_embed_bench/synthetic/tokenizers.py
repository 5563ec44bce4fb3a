"""Tokenizers with the size and kind of a released vocabulary, for checkpoints with random weights."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
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
    known = set(pieces)
    # Every way to split a piece into pieces is a merge, as in Gemma, so that SentencePiece can carry it.
    merges = [[p[:k], p[k:]] for p in pieces for k in range(1, len(p)) if p[:k] in known and p[k:] in known]
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
        "merges": merges,
    }
    spec = _spec(model, special, ("<bos>", 2), ("<eos>", 1))
    spec["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    settings = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return _files(spec, settings, 2048)


def bert_tokenizer_files(vocabulary: int = BERT_VOCABULARY) -> Files:
    """Returns a lowercasing WordPiece with `vocabulary` pieces."""
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    plain = (p.replace(_SPACE, "") for p in _pieces())
    both = (form for p in plain if p and p == p.lower() for form in (p, f"##{p}"))
    pieces = itertools.islice(
        dict.fromkeys(itertools.islice(both, 3 * vocabulary)), vocabulary - len(special)
    )
    model = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {piece: i for i, piece in enumerate([*special, *pieces])},
    }
    spec = _spec(model, special, ("[CLS]", 2), ("[SEP]", 3))
    spec["normalizer"] = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    }
    spec["pre_tokenizer"] = {"type": "BertPreTokenizer"}
    settings = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return _files(spec, settings, 512)


def _pieces() -> Iterator[str]:
    """Yields distinct pieces without end, short ones first. Every part of a piece comes before the piece."""
    yield from _SPACE + _LETTERS + _OTHERS
    for length in itertools.count(2):
        for letters in itertools.product(_LETTERS, repeat=length - 1):
            yield _SPACE + "".join(letters)
        for letters in itertools.product(_LETTERS, repeat=length):
            yield "".join(letters)


def _spec(
    model: dict[str, Any], special: Sequence[str], first: tuple[str, int], last: tuple[str, int]
) -> dict[str, Any]:
    """Returns a tokenizer.json that puts one special token before and one after every text."""
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
    around = [{"SpecialToken": {"id": token, "type_id": 0}} for token, _ in (first, last)]
    text = [{"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B")]
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
            "single": [around[0], text[0], around[1]],
            "pair": [around[0], *text, around[1]],
            "special_tokens": {t: {"id": t, "ids": [i], "tokens": [t]} for t, i in (first, last)},
        },
    }


def _files(spec: dict[str, Any], settings: dict[str, Any], limit: int) -> Files:
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": limit, **settings}
    return {
        "tokenizer.json": json.dumps(spec, ensure_ascii=False, separators=(",", ":")).encode(),
        "tokenizer_config.json": json.dumps(config).encode(),
    }
