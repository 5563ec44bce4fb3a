"""Lowercasing, by whom it is asked for and where it happens."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from edge_embed.text.tokenizers import load_tokenizer
from edge_embed_convert.source.checkpoint import load
from edge_embed_convert.source.reference import Reference
from edge_embed_convert.source.tokenizers import convert_tokenizer

from .tokenizer_specs import (
    agrees,
    pair,
    sentencepiece_model,
    small_spec,
    write,
)

GREEK = ("[PAD]", "[UNK]", "[MASK]", "the", "οδοσ", "οδος", "[", "]", "mask")


def _as_sentence_transformers(tokenizer: Tokenizer) -> Tokenizer:
    """What sentence-transformers makes of a tokenizer under do_lower_case."""
    given = tokenizer.normalizer
    if isinstance(given, normalizers.Lowercase) or (
        isinstance(given, normalizers.Sequence) and any(isinstance(n, normalizers.Lowercase) for n in given)
    ):
        return tokenizer
    steps = list(given) if isinstance(given, normalizers.Sequence) else [given] if given else []
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])
    return tokenizer


@pytest.mark.parametrize(
    "given",
    [
        None,
        normalizers.NFC(),
        normalizers.Lowercase(),
        normalizers.BertNormalizer(lowercase=True),
        normalizers.Sequence([normalizers.NFC(), normalizers.Strip()]),
        normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()]),
    ],
)
def test_lowercasing_is_the_normalizers(tmp_path: Path, given: Any) -> None:
    tokenizer = Tokenizer(
        models.WordPiece({w: i for i, w in enumerate(GREEK)}, unk_token="[UNK]", max_input_chars_per_word=9)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(list(GREEK[:3]))
    if given is not None:
        tokenizer.normalizer = given
    config = {"vocab_size": len(GREEK)}
    write(tmp_path, json.loads(tokenizer.to_str()), config=config)
    made = convert_tokenizer(tmp_path, lowercase=True)
    assert (made.record.kind, made.record.lowercase) == ("tokenizers", False)
    encode = load_tokenizer(made.record, made.data).encode
    assert [GREEK[i] for i in encode("ΟΔΟΣ [MASK] The [mask]")] == ["οδοσ", "[MASK]", "the", "[", "mask", "]"]
    assert agrees(made, _as_sentence_transformers(tokenizer))


def test_lowercase_comes_from_the_settings_unless_told(tmp_path: Path) -> None:
    write(tmp_path, small_spec(), sentence_bert_config={"do_lower_case": True})
    made, told = convert_tokenizer(tmp_path), convert_tokenizer(tmp_path, lowercase=False)
    assert (made.record.kind, made.record.lowercase) == ("tokenizers", False)
    assert "normalizer" in made.note
    assert load_tokenizer(made.record, made.data).encode("THE Cat") == pair()[1].encode("the cat")
    assert told.record.kind == "sentencepiece"


def test_model_alone_lowercases(tmp_path: Path) -> None:
    config = {"vocab_size": 360}
    write(tmp_path, config=config, tokenizer_config={"add_bos_token": True, "add_eos_token": True})
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model())
    made = convert_tokenizer(tmp_path, lowercase=True)
    encode = load_tokenizer(made.record, made.data).encode
    assert encode("THE Cat <s>") == encode("the cat <s>")


def test_the_reference_lowercases_alike(
    bert_checkpoint: Path, tmp_path: Path, edit: Callable[..., None]
) -> None:
    pytest.importorskip("transformers")
    shutil.copytree(bert_checkpoint, tmp_path, dirs_exist_ok=True)
    (tmp_path / "sentence_bert_config.json").write_text('{"do_lower_case": true}', "utf-8")
    spec = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    edit(tmp_path / "tokenizer.json", normalizer={**spec["normalizer"], "lowercase": False})
    checkpoint = load(str(tmp_path))
    made = convert_tokenizer(tmp_path, lowercase=checkpoint.lowercase)
    encode, reference = load_tokenizer(made.record, made.data).encode, Reference(checkpoint)
    for text in ("ΟΔΟΣ", "The Ferry [MASK] [mask]", "İstanbul GRÖSSE"):
        assert reference.tokenize(text) == [*made.record.prefix_ids, *encode(text), *made.record.suffix_ids]
    assert encode("[MASK]") == [4]
