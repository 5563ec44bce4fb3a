"""Configurations, prompts and buckets that cannot be used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_embed.errors import CheckpointError
from edge_embed_convert.buckets import check_buckets, default_buckets
from edge_embed_convert.source.checkpoint import load


def test_unknown_architecture(bert, edit, refused) -> None:
    edit(bert / "config.json", model_type="t5")
    refused(bert, "'t5'", "'bert'", "'gemma3_text'", "to fix it")


@pytest.mark.parametrize("value", [None, False])
def test_decoder_gemma(value, gemma, edit, refused) -> None:
    edit(gemma / "config.json", use_bidirectional_attention=value)
    refused(gemma, "decoder", f"use_bidirectional_attention = {value!r}", "to fix it")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("head_dim", None),
        ("num_hidden_layers", 0),
        ("num_key_value_heads", "one"),
        ("hidden_activation", "silu"),
        ("attn_logit_softcapping", 50.0),
        ("rope_scaling", {"rope_type": "yarn", "factor": 2.0}),
        ("layer_types", ["full_attention"]),
    ],
)
def test_gemma_config_that_cannot_be_used(key, value, ours, gemma, edit) -> None:
    edit(gemma / "config.json", **{key: value})
    if value is None:
        config = json.loads((gemma / "config.json").read_text("utf-8"))
        assert key not in config
    with pytest.raises(CheckpointError) as caught:
        ours.load(gemma)
    named = {
        "hidden_activation": "activation",
        "attn_logit_softcapping": "softcapping",
        "rope_scaling": "yarn",
    }
    assert named.get(key, key) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", b"\xe9"),
        ("1_Pooling/config.json", "nonsense"),
        ("sentence_bert_config.json", "{,}"),
    ],
)
def test_files_that_are_not_json(name, content, bert, refused) -> None:
    (bert / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(bert, name, fix=False)


def test_inconsistent_heads(bert, edit, refused) -> None:
    edit(bert / "config.json", num_attention_heads=7)
    refused(bert, "heads", fix=False)


def test_default_prompt_that_is_not_there(gemma, edit, refused) -> None:
    edit(gemma / "config_sentence_transformers.json", default_prompt_name="poem")
    refused(gemma, "default_prompt_name", "'poem'", "query, document")


@pytest.mark.parametrize("prompts", [["a"], {"query": 3}, "query: "])
def test_malformed_prompts(prompts, gemma, edit, refused) -> None:
    edit(gemma / "config_sentence_transformers.json", prompts=prompts)
    refused(gemma, "prompts", "malformed", fix=False)


@pytest.mark.parametrize("asked", [0, -3, 65, 10**9])
def test_maximum_out_of_range(asked, bert, refused) -> None:
    refused(bert, "maximum length", str(asked), "1 to 64", max_tokens=asked)


def test_maximum_is_the_least_of_all_limits(bert, edit) -> None:
    assert load(bert).max_tokens == 64
    edit(bert / "sentence_bert_config.json", max_seq_length=48)
    assert load(bert).max_tokens == 48
    assert load(bert, max_tokens=20).max_tokens == 20
    edit(bert / "sentence_bert_config.json", max_seq_length=None)
    edit(bert / "tokenizer_config.json", model_max_length=40)
    assert load(bert).max_tokens == 40
    edit(bert / "tokenizer_config.json", model_max_length=int(1e30))
    assert load(bert).max_tokens == 64


@pytest.mark.parametrize(
    "buckets", [[], [3, 64], [0, 64], [-8, 64], [16, 16, 64], [16, 32], [16, 128], [64, 64]]
)
def test_bad_buckets(buckets) -> None:
    with pytest.raises(CheckpointError, match="list of buckets") as caught:
        check_buckets(buckets, 64)
    assert "the largest 64" in str(caught.value)
    assert "--max-tokens" in str(caught.value)
    assert (", ".join(map(str, buckets)) or "nothing") in str(caught.value)


def test_an_empty_bucket_list_is_not_the_default(bert, refused) -> None:
    refused(bert, "list of buckets", "nothing", buckets=[])


def test_buckets_in_any_order() -> None:
    assert check_buckets([64, 16], 64) == [16, 64]


@pytest.mark.parametrize(
    ("maximum", "expected"),
    [(4, [4]), (16, [16]), (17, [16, 17]), (256, [16, 32, 64, 128, 256]), (100, [16, 32, 64, 100])],
)
def test_default_buckets(maximum, expected) -> None:
    assert default_buckets(maximum) == expected
    assert check_buckets(expected, maximum) == expected


@pytest.mark.parametrize("name", ["cos", "Cosine", 3, ["dot"]])
def test_unknown_similarity_is_refused(
    bert_checkpoint: Path, tmp_path: Path, edit: Callable[..., None], name: Any
) -> None:
    shutil.copytree(bert_checkpoint, tmp_path, dirs_exist_ok=True)
    (tmp_path / "config_sentence_transformers.json").write_text("{}", "utf-8")
    assert load(str(tmp_path)).similarity == "cosine"
    edit(tmp_path / "config_sentence_transformers.json", similarity_fn_name=name)
    with pytest.raises(CheckpointError, match=r"similarity_fn_name(?s:.)*cosine, dot, euclidean, manhattan"):
        load(str(tmp_path))
