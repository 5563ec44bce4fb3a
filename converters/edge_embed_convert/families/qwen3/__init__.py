"""Qwen3-Embedding (`model_type: qwen3`): a decoder whose last token is the text's vector.

A token sees those before it. The tokenizer ends every text with a special token, which is pooled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_embed.errors import CheckpointError
from edge_embed_convert.families.family import (
    Family,
    RandomTensor,
    Released,
    number,
    positive,
    require_supported,
)
from edge_embed_convert.families.rotary import (
    NOT_MEASURED,
    ROTARY_PROJECTIONS,
    attention_tensors,
    gated_tensors,
    rotary_theta,
    sliding_layers,
)

if TYPE_CHECKING:
    from torch import nn

    from edge_embed_convert.source.weights import Weights

THETA = 10_000.0
"""The rotary base that transformers takes where config.json names none."""


@dataclass(frozen=True)
class Qwen3Config:
    """The part of `config.json` that the encoder needs, checked."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    theta: float
    attention_bias: bool
    max_positions: int

    @classmethod
    def parse(cls, raw: Mapping[str, Any], sliding_window: int | None = None) -> Qwen3Config:
        """Reads transformers' `config.json`; released models have no sliding window.

        Raises:
            CheckpointError: If it is incomplete or asks for something this encoder does not compute.
        """
        require_supported(
            raw,
            {
                "hidden_act": ("silu", ("silu",)),
                "use_sliding_window": (False, (False,)),
                "is_causal": (True, (True,)),
            },
        )
        layers, heads = positive(raw, "num_hidden_layers", 32), positive(raw, "num_attention_heads", 32)
        if any(sliding_layers(raw, layers, every=1, full_at=0)):
            raise CheckpointError(
                "layers with a sliding window are not supported in this family",
                got="sliding_attention in layer_types",
            )
        kv_heads = (
            heads if raw.get("num_key_value_heads", 32) is None else positive(raw, "num_key_value_heads", 32)
        )
        head_dim = positive(raw, "head_dim", 128)
        if heads % kv_heads or head_dim % 2:
            raise CheckpointError(
                "the sizes of the attention heads do not fit together",
                got=f"num_attention_heads = {heads}, num_key_value_heads = {kv_heads}, head_dim = {head_dim}",
                expected="the same number of query heads for every key head, and an even head size",
            )
        return cls(
            vocab_size=positive(raw, "vocab_size", 151936),
            hidden_size=positive(raw, "hidden_size", 4096),
            intermediate_size=positive(raw, "intermediate_size", 22016),
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            eps=number(raw, "rms_norm_eps", 1e-6),
            theta=rotary_theta(raw, THETA),
            attention_bias=bool(raw.get("attention_bias", False)),
            max_positions=positive(raw, "max_position_embeddings", 32768),
        )


def _build(weights: Weights, config: Qwen3Config, pad_id: int) -> nn.Module:
    from edge_embed_convert.families.qwen3.encoder import Qwen3  # brings PyTorch

    return Qwen3(weights, config, pad_id)


def _tensors(raw: Mapping[str, Any]) -> Iterator[RandomTensor]:
    config = Qwen3Config.parse(raw)
    hidden, head = config.hidden_size, config.head_dim
    yield RandomTensor("embed_tokens.weight", (config.vocab_size, hidden), 0.05)
    for index in range(config.layers):
        layer = f"layers.{index}"
        query, key = config.heads * head, config.kv_heads * head
        yield from attention_tensors(layer, hidden, query, key, 0.05)
        yield from gated_tensors(layer, hidden, config.intermediate_size, 0.05)
        for name in ("q", "k"):
            yield RandomTensor(f"{layer}.self_attn.{name}_norm.weight", (head,), 0.3, mean=1.0)
        for name in ("input", "post_attention"):
            yield RandomTensor(f"{layer}.{name}_layernorm.weight", (hidden,), 0.3, mean=1.0)
    yield RandomTensor("norm.weight", (hidden,), 0.3, mean=1.0)


FAMILY = Family(
    name="qwen3",
    model_types=("qwen3",),
    parse=Qwen3Config.parse,
    build=_build,
    projections=ROTARY_PROJECTIONS,
    default_recipe="int8",
    evidence=NOT_MEASURED,
    prefixes=("model.",),
    unused=(r"(lm_head|.*rotary_emb\..*inv_freq).*",),
    default_max_tokens=2048,
    released=Released(
        name="Qwen3-Embedding-0.6B",
        config={
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "vocab_size": 151669,
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "hidden_act": "silu",
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1_000_000.0,
            "rope_scaling": None,
            "attention_bias": False,
            "sliding_window": None,
            "use_sliding_window": False,
            "tie_word_embeddings": True,
            "bos_token_id": 151643,
            "eos_token_id": 151643,
        },
        tensors=_tensors,
        tokenizer="byte-level",
        pooling="lasttoken",
        prompts={
            "query": "Instruct: Given a web search query, retrieve relevant passages that answer the query"
            "\nQuery:",
            "document": "",
        },
    ),
    tiny={
        "vocab_size": 600,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": 72,
        "bos_token_id": 2,
        "eos_token_id": 1,
    },
)
