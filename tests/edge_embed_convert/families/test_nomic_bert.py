"""NomicBERT: exact to sentence-transformers under both sets of names, and taken whole by the delegate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from edge_embed.engine.litert.delegate import partitions
from edge_embed.errors import CheckpointError
from edge_embed_convert.families.nomic_bert import FAMILY, NomicBertConfig
from edge_embed_convert.graph.rewrite import build, survives_float16
from edge_embed_convert.source.checkpoint import load
from edge_embed_convert.source.reference import Reference

TOLERANCE = 1e-5

RELEASED_CONFIG = {
    "activation_function": "swiglu",
    "architectures": ["NomicBertModel"],
    "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
    "causal": False,
    "layer_norm_epsilon": 1e-12,
    "max_trained_positions": 64,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "model_type": "nomic_bert",
    "n_embd": 64,
    "n_head": 4,
    "n_inner": 96,
    "n_layer": 3,
    "n_positions": 72,
    "parallel_block": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "rotary_emb_base": 500,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "type_vocab_size": 2,
    "use_rms_norm": False,
    "vocab_size": 600,
}
"""As nomic-embed-text-v1.5 has it, in another size."""


def _rename(tensors: dict[str, torch.Tensor], layers: int = 3) -> None:
    """Gives tensors the names of the released code."""
    for index in range(layers):
        new, old = f"encoder.layers.{index}", f"layers.{index}"
        parts = [tensors.pop(f"{old}.self_attn.{name}_proj.weight") for name in "qkv"]
        tensors[f"{new}.attn.Wqkv.weight"] = torch.cat(parts)
        names = {
            "attn.out_proj.weight": "self_attn.o_proj.weight",
            "mlp.fc11.weight": "mlp.up_proj.weight",
            "mlp.fc12.weight": "mlp.gate_proj.weight",
            "mlp.fc2.weight": "mlp.down_proj.weight",
            "norm1.weight": "post_attention_layernorm.weight",
            "norm1.bias": "post_attention_layernorm.bias",
            "norm2.weight": "post_mlp_layernorm.weight",
            "norm2.bias": "post_mlp_layernorm.bias",
        }
        for name, today in names.items():
            tensors[f"{new}.{name}"] = tensors.pop(f"{old}.{today}")
    for name in ("weight", "bias"):
        tensors[f"emb_ln.{name}"] = tensors.pop(f"embeddings.LayerNorm.{name}")


def test_vectors_are_exact(family_checks) -> None:
    assert family_checks.exact(family_checks.write("nomic_bert"), [1, 8, 16, 40, 71, 72]) <= TOLERANCE


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "gelu"},
        {"head_dim": 32},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 3e4}},
        {"type_vocab_size": 1},
    ],
    ids=["gelu", "head", "rotary", "types"],
)
def test_variants_are_exact(changes: dict[str, Any], family_checks) -> None:
    assert family_checks.exact(family_checks.write("nomic_bert", **changes), [8, 72]) <= TOLERANCE


def _released(family_checks: Any, rewrite_tensors: Any, tokenizer: Any = None, **changes: Any) -> Path:
    """Writes a checkpoint as the released code describes it, with the weights of a today's one."""
    directory: Path = family_checks.write(
        "nomic_bert",
        tokenizer,
        num_hidden_layers=3,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    )
    rewrite_tensors(directory, _rename)
    (directory / "config.json").write_text(json.dumps({**RELEASED_CONFIG, **changes}), "utf-8")
    return directory


@pytest.mark.parametrize(("activation", "today"), [("swiglu", "silu"), ("geglu", "gelu")])
def test_a_released_checkpoint(
    activation: str, today: str, family_checks, rewrite_tensors, bert_tokenizer
) -> None:
    tokens = torch.arange(10, 30)[None].int()
    directory = family_checks.write(
        "nomic_bert",
        num_hidden_layers=3,
        hidden_act=today,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0},
    )
    before = build(load(directory), 0)(tokens)["embedding"]
    released = _released(family_checks, rewrite_tensors, bert_tokenizer, activation_function=activation)
    checkpoint = load(released)
    assert torch.equal(build(checkpoint, 0)(tokens)["embedding"], before)
    reference = Reference(checkpoint).embed_tokens(tokens[0].tolist())
    assert abs(reference - before[0].numpy()).max() <= TOLERANCE


def test_a_base_that_grows_is_left_to_shorter_texts(family_checks, rewrite_tensors) -> None:
    assert load(_released(family_checks, rewrite_tensors)).max_tokens == 72
    assert load(_released(family_checks, rewrite_tensors, rotary_scaling_factor=2)).max_tokens == 64


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"n_layer": None}, "n_layer"),
        ({"rotary_emb_base": None}, "rotary_emb_base"),
        ({"activation_function": "gelu"}, "activation_function"),
        ({"qkv_proj_bias": True}, "qkv_proj_bias"),
        ({"mlp_fc1_bias": None}, "mlp_fc1_bias"),
        ({"prenorm": True}, "prenorm"),
        ({"causal": True}, "causal"),
        ({"rotary_emb_fraction": 0.5}, "rotary_emb_fraction"),
        ({"rotary_emb_interleaved": True}, "rotary_emb_interleaved"),
        ({"use_rms_norm": True}, "use_rms_norm"),
        ({"num_experts": 8}, "num_experts"),
        ({"rotary_scaling_factor": 2, "max_trained_positions": None}, "max_trained_positions"),
        ({"n_head": 7}, "num_attention_heads"),
    ],
)
def test_a_released_configuration_that_is_not_computed(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(CheckpointError, match=word):
        NomicBertConfig.parse({**RELEASED_CONFIG, **changes})


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
        (
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            "partial_rotary_factor",
        ),
        ({"num_attention_heads": 7}, "num_attention_heads"),
        ({"layer_norm_eps": 1e-12, "num_hidden_layers": 0}, "num_hidden_layers"),
    ],
)
def test_what_is_not_computed_is_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(CheckpointError, match=word):
        NomicBertConfig.parse({**FAMILY.released.config, **changes})


def test_weights_of_another_model_are_refused(family_checks, rewrite_tensors) -> None:
    directory = family_checks.write("nomic_bert")
    bias = {"layers.0.mlp.up_proj.bias": torch.ones(96)}
    rewrite_tensors(directory, lambda tensors: tensors.update(bias))
    with pytest.raises(CheckpointError, match="does not use"):
        build(load(directory), 0)


def test_one_partition_for_each_bucket(family_checks) -> None:
    path = family_checks.exported(family_checks.write("nomic_bert"), [16, 72])
    for length in (16, 72):
        assert partitions(path, length).partitions == 1


def test_float16_is_safe(family_checks) -> None:
    model = build(load(family_checks.write("nomic_bert")), 0)
    assert survives_float16(model, [list(range(5, 13)), list(range(5, 69))])
