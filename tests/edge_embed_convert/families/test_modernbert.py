"""ModernBERT: exact to sentence-transformers, and taken whole by the delegate."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edge_embed.engine.litert.delegate import partitions
from edge_embed.errors import CheckpointError
from edge_embed_convert.families.modernbert import FAMILY, ModernBertConfig
from edge_embed_convert.graph.rewrite import build, survives_float16
from edge_embed_convert.source.checkpoint import load

TOLERANCE = 1e-5
LENGTHS = [1, 8, 16, 17, 40, 63, 64, 71, 72]
"""Within the window of 16, beyond it, and from 64 on by blocks."""


def test_vectors_are_exact(family_checks) -> None:
    assert family_checks.exact(family_checks.write("modernbert"), LENGTHS) <= TOLERANCE


@pytest.mark.parametrize(
    "changes",
    [
        {"local_attention": 20},
        {"global_attn_every_n_layers": 2, "num_hidden_layers": 2},
        {"global_rope_theta": 900.0, "local_rope_theta": 70.0},
        {"layer_types": ["sliding_attention", "full_attention"], "num_hidden_layers": 2},
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 3e4},
                "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
            }
        },
    ],
    ids=["window", "every", "bases", "types", "rotary"],
)
def test_variants_are_exact(changes: dict[str, Any], family_checks) -> None:
    assert family_checks.exact(family_checks.write("modernbert", **changes), [8, 40, 72]) <= TOLERANCE


def test_a_checkpoint_with_a_head(family_checks, rewrite_tensors) -> None:
    directory = family_checks.write("modernbert")
    tokens = torch.arange(10, 30)[None].int()
    before = build(load(directory), 0)(tokens)["embedding"]

    def wrap(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[f"model.{name}"] = tensors.pop(name)
        tensors["head.dense.weight"] = torch.ones(64, 64)
        tensors["decoder.bias"] = torch.ones(600)

    rewrite_tensors(directory, wrap)
    assert torch.equal(build(load(directory), 0)(tokens)["embedding"], before)


def test_one_partition_for_each_bucket(family_checks) -> None:
    path = family_checks.exported(family_checks.write("modernbert", num_hidden_layers=2), [16, 72])
    for length in (16, 72):
        assert partitions(path, length).partitions == 1


def test_float16_is_tried(family_checks) -> None:
    model = build(load(family_checks.write("modernbert")), 0)
    assert survives_float16(model, [list(range(5, 13)), list(range(5, 69))])


def test_buckets_end_at_2048_unless_asked(family_checks) -> None:
    directory = family_checks.write("modernbert", max_position_embeddings=8192)
    assert load(directory).max_tokens == 2048
    assert load(directory, max_tokens=8192).max_tokens == 8192


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"hidden_activation": "relu"}, "hidden_activation"),
        ({"layer_types": ["full_attention"] * 3}, "layer_types"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "yarn"),
        ({"num_attention_heads": 7}, "num_attention_heads"),
    ],
)
def test_what_is_not_computed_is_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(CheckpointError, match=word):
        ModernBertConfig.parse({**FAMILY.released.config, **changes})
