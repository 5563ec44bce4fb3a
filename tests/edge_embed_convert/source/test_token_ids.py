"""Ids of tokens: those beyond the table, and which one is the pad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from edge_embed.errors import CheckpointError
from edge_embed.text.tokenizers import load_tokenizer
from edge_embed_convert.source.tokenizers import convert_tokenizer

from .tokenizer_specs import (
    small_size,
    small_spec,
    unigram,
    write,
)


def test_special_token_beyond_the_table_is_left_out(tmp_path: Path) -> None:
    spec = small_spec()
    extra = spec["added_tokens"][0] | {"id": small_size(), "content": "<image_soft_token>"}
    spec["added_tokens"].append(extra)
    made = convert_tokenizer(write(tmp_path, spec))
    assert made.record.kind == "sentencepiece"
    assert "left out <image_soft_token>" in made.note
    encode = load_tokenizer(made.record, made.data).encode
    assert max(encode("a <image_soft_token> b")) < small_size()


def test_ordinary_token_beyond_the_table_is_refused(tmp_path: Path) -> None:
    spec = small_spec()
    spec["added_tokens"].append(
        spec["added_tokens"][0] | {"id": small_size(), "content": "<new>", "special": False}
    )
    with pytest.raises(CheckpointError, match=f"id {small_size()}(?s:.)*vocab_size"):
        convert_tokenizer(write(tmp_path, spec))


def test_vocabulary_larger_than_the_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no embedding for"):
        convert_tokenizer(
            write(tmp_path, small_spec(), config={"vocab_size": small_size() - 1, "pad_token_id": 0})
        )


def test_special_tokens_that_depend_on_the_text_are_refused(tmp_path: Path) -> None:
    spec = small_spec()
    sequence = {"Sequence": {"id": "A", "type_id": 0}}
    spec["post_processor"]["single"] = [sequence, {"SpecialToken": {"id": "<eos>", "type_id": 0}}, sequence]
    with pytest.raises(CheckpointError, match="fixed prefix and suffix"):
        convert_tokenizer(write(tmp_path, spec))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer_config", {"pad_token": "<pad>"}),
        ("tokenizer_config", {"pad_token": {"__type": "AddedToken", "content": "<pad>"}}),
        ("special_tokens_map", {"pad_token": "<pad>"}),
    ],
)
def test_pad_id_without_config(tmp_path: Path, name: str, content: dict[str, Any]) -> None:
    write(tmp_path, small_spec(), config={"vocab_size": small_size()}, **{name: content})
    assert convert_tokenizer(tmp_path).record.pad_id == 0


def _words_at(first: dict[str, int], *, special: bool = True, rows: int = 0, **files: Any) -> dict[str, Any]:
    """Arguments for `_write`: a WordPiece with these ids among words, config.json naming 0 as the pad."""
    ids = iter(i for i in range(99) if i not in first.values())
    words = first | {word: next(ids) for word in ("the", "cat", "sat", "[UNK]", "[CLS]", "[SEP]")}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    around = [("[CLS]", words["[CLS]"]), ("[SEP]", words["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]", *(first if special else ())])
    config = {"model_type": "bert", "vocab_size": rows or len(words), "pad_token_id": 0}
    return {"tokenizer": json.loads(tokenizer.to_str()), "config": config, **files}


@pytest.mark.parametrize("named", [{}, {"pad_token": "<pad>"}])
def test_xlm_roberta_tokenizer_under_a_bert(tmp_path: Path, named: dict[str, Any]) -> None:
    tokenizer = unigram()
    files = {"tokenizer_config": {"tokenizer_class": "XLMRobertaTokenizer"} | named}
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    config = {"model_type": "bert", "vocab_size": tokenizer.get_vocab_size(), "pad_token_id": 0}
    write(tmp_path, json.loads(tokenizer.to_str()), config=config, **files)
    assert convert_tokenizer(tmp_path).record.pad_id == 1


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(
    "files",
    [
        {},
        {"tokenizer_config": {"pad_token": "[PAD]"}},
        {"special_tokens_map": {"pad_token": "[PAD]"}},
        {"tokenizer_config": {"pad_token": "[CLS]"}},
        {"tokenizer_config": {"pad_token": "[absent]"}},
    ],
)
def test_a_word_has_the_id_that_config_names(tmp_path: Path, special: bool, files: dict[str, Any]) -> None:
    given = _words_at({"[PAD]": 4}, special=special, **files)
    assert given["tokenizer"]["model"]["vocab"]["the"] == 0
    assert convert_tokenizer(write(tmp_path, **given)).record.pad_id == 4


def test_a_word_is_never_the_pad(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no usable pad id(?s:.)*0 \('the'\)"):
        convert_tokenizer(write(tmp_path, **_words_at({})))


def test_where_config_names_a_word_an_id_without_a_token_is_the_pad(tmp_path: Path) -> None:
    given = _words_at({}, rows=20)
    used = {*given["tokenizer"]["model"]["vocab"].values()}
    pad = convert_tokenizer(write(tmp_path, **given)).record.pad_id
    assert 0 < pad < 20
    assert pad not in used


@pytest.mark.parametrize(("first", "rows", "pad"), [({"[unused7]": 3}, 0, 3), ({}, 8, 6)])
def test_without_a_pad_an_id_that_text_cannot_have(
    tmp_path: Path, first: dict[str, int], rows: int, pad: int
) -> None:
    given = _words_at(first, special=False, rows=rows)
    del given["config"]["pad_token_id"]
    assert convert_tokenizer(write(tmp_path, **given)).record.pad_id == pad


@pytest.mark.parametrize("pad", [None, -1, 10**6, 2, 5, "0", True, [0]])
def test_unusable_pad_id_is_refused(tmp_path: Path, pad: Any) -> None:
    given = _words_at({})
    given["config"]["pad_token_id"] = pad
    with pytest.raises(CheckpointError, match=r"no usable pad id|pad_token_id"):
        convert_tokenizer(write(tmp_path, **given))
