"""Qwen3-Embedding: exact to sentence-transformers, padding or not, and taken whole by the delegate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from edge_embed import Embedder
from edge_embed.engine.litert.delegate import partitions
from edge_embed.errors import CheckpointError
from edge_embed_convert.families.qwen3 import FAMILY, Qwen3Config
from edge_embed_convert.gate.probe_texts import SENTENCES
from edge_embed_convert.graph.rewrite import build, survives_float16
from edge_embed_convert.layers import causal
from edge_embed_convert.pipeline import convert
from edge_embed_convert.source.checkpoint import load
from edge_embed_convert.source.prompts import missing_prompts

TOLERANCE = 1e-5


def test_vectors_are_exact(family_checks) -> None:
    assert family_checks.exact(family_checks.write("qwen3"), [1, 8, 16, 40, 71, 72]) <= TOLERANCE


@pytest.mark.parametrize("most", [2, 4])
def test_vectors_are_exact_by_blocks(most: int, family_checks, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long inputs are computed, where a block of queries leaves out the keys after it."""
    monkeypatch.setattr(causal, "BLOCK", 16)
    monkeypatch.setattr(causal, "MOST_BLOCKS", most)
    assert family_checks.exact(family_checks.write("qwen3"), [8, 16, 17, 63, 72]) <= TOLERANCE


@pytest.mark.parametrize(
    "changes",
    [
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 1},
        {"num_key_value_heads": None},
        {"head_dim": 16, "rope_theta": 500.0},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 3e4}},
    ],
    ids=["as many", "one", "none", "head", "rotary"],
)
def test_variants_are_exact(changes: dict[str, Any], family_checks) -> None:
    assert family_checks.exact(family_checks.write("qwen3", **changes), [8, 72]) <= TOLERANCE


def test_a_token_sees_those_before_it_alone(family_checks) -> None:
    encoder = build(load(family_checks.write("qwen3")), 0).encoder
    first, second = torch.arange(10, 30)[None].int(), torch.arange(10, 30)[None].int()
    second[0, 12] = 99
    before, after = encoder(first)[0], encoder(second)[0]
    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


def test_a_language_model_as_it_is_saved(family_checks, rewrite_tensors) -> None:
    directory = family_checks.write("qwen3")
    tokens = torch.arange(10, 30)[None].int()
    before = build(load(directory), 0)(tokens)["embedding"]

    def wrap(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[f"model.{name}"] = tensors.pop(name)
        tensors["lm_head.weight"] = torch.ones(600, 64)

    rewrite_tensors(directory, wrap)
    assert torch.equal(build(load(directory), 0)(tokens)["embedding"], before)


@pytest.mark.parametrize("block", [512, 24])
def test_one_partition_for_each_bucket(block: int, family_checks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causal, "BLOCK", block)
    path = family_checks.exported(family_checks.write("qwen3"), [16, 72])
    for length in (16, 72):
        assert partitions(path, length).partitions == 1


def test_float16_is_safe_up_to_thousands(family_checks, rewrite_tensors) -> None:
    """Decoders have single channels of thousands in the residual stream; its squares must not overflow."""
    directory = family_checks.write("qwen3")

    def outlier(tensors: dict[str, torch.Tensor]) -> None:
        tensors["layers.0.mlp.down_proj.weight"][7] *= 20_000

    rewrite_tensors(directory, outlier)
    model = build(load(directory), 0)
    ids = [list(range(5, 13)), list(range(5, 69))]
    streams = [model.encoder.layers[0](*_stream(model, tokens)) for tokens in ids]
    assert max(float(stream.abs().max()) for stream in streams) * 16 > 1000
    assert survives_float16(model, ids)


def _stream(model: Any, ids: list[int]) -> tuple[torch.Tensor, causal.CausalContext]:
    from edge_embed_convert.layers.rotary import rotary_tables

    config = model.encoder.config
    mask = torch.ones(1, len(ids))
    table = rotary_tables(len(ids), config.head_dim, config.theta, 1.0, mask.dtype)
    return model.encoder.table[ids][None], causal.CausalContext(mask, table)


def test_buckets_end_at_2048_unless_asked(family_checks) -> None:
    directory = family_checks.write("qwen3", max_position_embeddings=32768)
    assert load(directory).max_tokens == 2048
    assert load(directory, max_tokens=8192).max_tokens == 8192


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"is_causal": False}, "is_causal"),
        ({"layer_types": ["full_attention"] * 3}, "layer_types"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "yarn"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "linear"),
        ({"num_key_value_heads": 7}, "num_key_value_heads"),
        ({"head_dim": 127}, "head_dim"),
        ({"hidden_size": "large"}, "hidden_size"),
    ],
)
def test_what_is_not_computed_is_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(CheckpointError, match=word):
        Qwen3Config.parse({**FAMILY.released.config, **changes})


def test_a_config_of_other_weights_is_refused(family_checks, edit) -> None:
    directory = family_checks.write("qwen3")
    edit(directory / "config.json", intermediate_size=128)
    with pytest.raises(CheckpointError, match="does not have the shape"):
        build(load(directory), 0)


def test_prompts_that_a_copy_has_lost(tmp_path: Path) -> None:
    note = missing_prompts(tmp_path, "Qwen/Qwen3-Embedding-0.6B", {})
    assert note is not None
    assert "query=$'Instruct: " in note


@pytest.fixture(scope="module")
def qwen_tokenizer() -> dict[str, bytes]:
    """A byte-level BPE that pads with the token that it puts after every text, as Qwen's does."""
    special = ["<|endoftext|>", "<|im_end|>", "<|image_pad|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=600 - len(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.add_special_tokens(special)
    end = tokenizer.token_to_id(special[0])
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="$A <|endoftext|>", special_tokens=[(special[0], end)]),
        ]
    )
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_bos_token": False,
        "pad_token": special[0],
        "eos_token": special[1],
        "model_max_length": 131072,
    }
    files = {"tokenizer.json": tokenizer.to_str(), "tokenizer_config.json": json.dumps(config)}
    return {name: text.encode() for name, text in files.items()}


def test_a_converted_file(family_checks, qwen_tokenizer: dict[str, bytes], tmp_path: Path) -> None:
    """The token after every text is pooled, whatever pads the input, and what a text spells is seen."""
    from sentence_transformers import SentenceTransformer

    size = len(json.loads(qwen_tokenizer["tokenizer.json"])["model"]["vocab"]) + 3
    directory = family_checks.write("qwen3", qwen_tokenizer, vocab_size=size)
    made = convert(directory, tmp_path / "q.tflite", recipe="fp32", buckets=[16, 72], num_threads=1)
    record = made.manifest.tokenizer
    assert record.suffix_ids == [size - 3]
    assert record.pad_id == size - 1
    assert made.manifest.pooling == ["lasttoken"]
    texts = ["red", "Mars is red.", "a <|image_pad|>", "<|endoftext|>", ""]
    source = SentenceTransformer(str(directory), device="cpu")
    with Embedder(made.path) as model:
        for encode in ("encode_query", "encode_document"):
            wanted = [getattr(source, encode)(text) for text in texts]
            got = getattr(model, encode)(texts)
            assert np.abs(got - np.stack(wanted)).max() <= TOLERANCE
