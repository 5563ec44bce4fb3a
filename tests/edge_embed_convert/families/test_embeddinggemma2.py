"""EmbeddingGemma 2: exact to sentence-transformers, taken whole by the delegate, and safe in float16."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModel

from edge_embed.engine.litert.delegate import partitions
from edge_embed.errors import CheckpointError
from edge_embed_convert.families.embeddinggemma2 import FAMILY, Attention, EmbeddingGemma2Config
from edge_embed_convert.graph.rewrite import build, survives_float16
from edge_embed_convert.source.checkpoint import load

TOLERANCE = 1e-5
NAME = "embeddinggemma2"
LENGTHS = [1, 8, 16, 17, 40, 63, 64, 71, 72]
"""Within the window of 16, beyond it, and from 64 on by blocks."""


def test_vectors_are_exact(family_checks) -> None:
    assert family_checks.exact(family_checks.write(NAME), LENGTHS) <= TOLERANCE


@pytest.mark.parametrize(
    "changes",
    [
        {"sliding_window": 20},
        {"sliding_window_pattern": 2, "num_hidden_layers": 2},
        {"global_head_dim": 32, "num_global_key_value_heads": 4},
        {"num_key_value_heads": 4},
        {
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 700.0},
                "full_attention": {
                    "rope_type": "proportional",
                    "rope_theta": 9e4,
                    "partial_rotary_factor": 0.5,
                },
            }
        },
        {
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
        },
    ],
    ids=["window", "pattern", "global", "heads", "rotary", "layers"],
)
def test_variants_are_exact(changes: dict[str, Any], family_checks) -> None:
    assert family_checks.exact(family_checks.write(NAME, **changes), [8, 40, 72]) <= TOLERANCE


def test_as_transformers_saves_it(family_checks, tmp_path) -> None:
    """Its config.json names the sizes of global layers by their numbers, and every default is left out."""
    directory = family_checks.write(NAME)
    before = build(load(directory), 0)
    AutoModel.from_pretrained(directory, dtype=torch.float32).save_pretrained(directory)
    tokens = torch.arange(10, 50)[None].int()
    after = build(load(directory), 0)(tokens)["embedding"]
    assert float((after - before(tokens)["embedding"]).abs().max()) <= 1e-6


def test_one_partition_for_each_bucket(family_checks) -> None:
    path = family_checks.exported(family_checks.write(NAME), [16, 72])
    for length in (16, 72):
        assert partitions(path, length).partitions == 1


def test_float16_overflows_the_source_and_not_ours(family_checks, rewrite_tensors) -> None:
    directory = family_checks.write(NAME)

    def with_outliers(tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            if name.endswith(("_proj.weight", "embed_tokens.weight")):
                tensor.mul_(3.5)  # narrow layers answer as strongly as wide ones do
            elif name.endswith("layer_scalar"):
                tensor.fill_(1.0)
            elif ".post_" in name:
                tensor.add_(300.0)
                tensor[[5, 40]] = torch.tensor([15000.0, -10500.0])
            elif name.endswith(("input_layernorm.weight", "pre_feedforward_layernorm.weight")):
                tensor.add_(9.0)
                tensor[[5, 40]] = 0.01
            elif name.endswith("per_layer_input_gate.weight"):
                tensor[:, [5, 40]] = 0.0
        tensors["norm.weight"][[5, 40]] = 0.01

    rewrite_tensors(directory, with_outliers)
    texts = [list(range(5, 5 + length)) for length in (8, 30, 60)]
    source = AutoModel.from_pretrained(directory, dtype=torch.float16).eval()
    with torch.inference_mode():
        states = source(input_ids=torch.tensor([texts[1]])).last_hidden_state
    assert not torch.isfinite(states).all(), "this checkpoint does not reach the range that the test is about"
    assert survives_float16(build(load(directory), 0), texts)


def test_buckets_end_at_2048_unless_asked(family_checks, edit) -> None:
    directory = family_checks.write(NAME, max_position_embeddings=8192)
    assert load(directory).max_tokens == 2048
    assert load(directory, max_tokens=8192).max_tokens == 8192
    with pytest.raises(CheckpointError, match="maximum length"):
        load(directory, max_tokens=8193)


def test_the_whole_model_has_the_text_part() -> None:
    text = dict(FAMILY.released.config)
    whole = {"model_type": "embedding_gemma2", "text_config": text, "vision_config": {}}
    assert EmbeddingGemma2Config.parse(whole) == EmbeddingGemma2Config.parse(text)
    with pytest.raises(CheckpointError, match="text part"):
        EmbeddingGemma2Config.parse({"model_type": "embedding_gemma2"})


def test_sizes_of_the_released_model() -> None:
    config = EmbeddingGemma2Config.parse(FAMILY.released.config)
    assert (config.hidden_size, config.window_radius, len(config.attention)) == (768, 512, 24)
    assert config.attention[0] == Attention(True, 256, 2)
    assert config.attention[5] == config.attention[23] == Attention(False, 512, 1)
    assert sum(not layer.sliding for layer in config.attention) == 4
    assert config.rotary[False].share == 0.25


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"hidden_activation": "relu"}, "hidden_activation"),
        ({"layer_types": ["full_attention"] * 3}, "layer_types"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "yarn"),
        ({"per_layer_config": {"0": {"head_dim": 128}}}, "per_layer_config"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
    ],
)
def test_what_is_not_computed_is_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(CheckpointError, match=word):
        EmbeddingGemma2Config.parse({**FAMILY.released.config, **changes})
