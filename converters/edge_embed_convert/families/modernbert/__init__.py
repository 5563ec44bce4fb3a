"""ModernBERT (`model_type: modernbert`): rotary positions, windows in most layers, a gated feed-forward.

Norms come before attention and feed-forward, and none comes before the first layer's attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_embed_convert.families.family import (
    Family,
    RandomTensor,
    Released,
    number,
    positive,
    require_supported,
)
from edge_embed_convert.families.rotary import (
    FULL,
    NOT_MEASURED,
    ROTARY_PROJECTIONS,
    SLIDING,
    head_size,
    rotary_theta,
    sliding_layers,
)

if TYPE_CHECKING:
    from torch import nn

    from edge_embed_convert.source.weights import Weights

THETA = {SLIDING: ("local_rope_theta", 10_000.0), FULL: ("global_rope_theta", 160_000.0)}
"""What old files call the rotary base of each kind of layers, and the base that transformers takes where
config.json names none."""


@dataclass(frozen=True)
class ModernBertConfig:
    """The part of `config.json` that the encoder needs, checked."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    heads: int
    eps: float
    window_radius: int
    sliding: tuple[bool, ...]
    theta: Mapping[bool, float]
    attention_bias: bool
    mlp_bias: bool
    norm_bias: bool
    max_positions: int

    @classmethod
    def parse(cls, raw: Mapping[str, Any], sliding_window: int | None = None) -> ModernBertConfig:
        """Reads transformers' `config.json`, old style or new.

        Args:
            raw: The parsed file.
            sliding_window: Overrides `local_attention`, the whole width of the window.

        Raises:
            CheckpointError: If it is incomplete or asks for something this encoder does not compute.
        """
        require_supported(raw, {"hidden_activation": ("gelu", ("gelu",))})
        hidden, heads = positive(raw, "hidden_size", 768), positive(raw, "num_attention_heads", 12)
        head_size(hidden, heads)
        layers, every = positive(raw, "num_hidden_layers", 22), positive(raw, "global_attn_every_n_layers", 3)
        return cls(
            vocab_size=positive(raw, "vocab_size", 50368),
            hidden_size=hidden,
            intermediate_size=positive(raw, "intermediate_size", 1152),
            heads=heads,
            eps=number(raw, "norm_eps", 1e-5),
            window_radius=(sliding_window or positive(raw, "local_attention", 128)) // 2,
            sliding=sliding_layers(raw, layers, every, full_at=0),
            theta={
                kind == SLIDING: rotary_theta(raw, base, layers=kind, key=key)
                for kind, (key, base) in THETA.items()
            },
            attention_bias=bool(raw.get("attention_bias", False)),
            mlp_bias=bool(raw.get("mlp_bias", False)),
            norm_bias=bool(raw.get("norm_bias", False)),
            max_positions=positive(raw, "max_position_embeddings", 8192),
        )


def _build(weights: Weights, config: ModernBertConfig, pad_id: int) -> nn.Module:
    from edge_embed_convert.families.modernbert.encoder import ModernBert  # brings PyTorch

    return ModernBert(weights, config, pad_id)


def _adapt_reference(config: Any, sliding_window: int | None) -> None:
    if sliding_window is not None:
        config.local_attention = sliding_window


def _tensors(raw: Mapping[str, Any]) -> Iterator[RandomTensor]:
    hidden, inner = raw["hidden_size"], raw["intermediate_size"]
    yield RandomTensor("embeddings.tok_embeddings.weight", (raw["vocab_size"], hidden), 0.05)
    yield RandomTensor("embeddings.norm.weight", (hidden,), 0.2, mean=1.0)
    for index in range(raw["num_hidden_layers"]):
        layer = f"layers.{index}"
        if index:
            yield RandomTensor(f"{layer}.attn_norm.weight", (hidden,), 0.2, mean=1.0)
        yield RandomTensor(f"{layer}.attn.Wqkv.weight", (3 * hidden, hidden), 0.05)
        yield RandomTensor(f"{layer}.attn.Wo.weight", (hidden, hidden), 0.05)
        yield RandomTensor(f"{layer}.mlp_norm.weight", (hidden,), 0.2, mean=1.0)
        yield RandomTensor(f"{layer}.mlp.Wi.weight", (2 * inner, hidden), 0.05)
        yield RandomTensor(f"{layer}.mlp.Wo.weight", (hidden, inner), 0.05)
    yield RandomTensor("final_norm.weight", (hidden,), 0.2, mean=1.0)


FAMILY = Family(
    name="modernbert",
    model_types=("modernbert",),
    parse=ModernBertConfig.parse,
    build=_build,
    projections=ROTARY_PROJECTIONS,
    default_recipe="int8",
    evidence=NOT_MEASURED,
    prefixes=("model.",),
    unused=(r"(head|decoder|classifier)\..*",),
    adapt_reference=_adapt_reference,
    default_max_tokens=2048,
    released=Released(
        name="gte-modernbert-base",
        config={
            "architectures": ["ModernBertModel"],
            "model_type": "modernbert",
            "vocab_size": 50368,
            "hidden_size": 768,
            "intermediate_size": 1152,
            "num_hidden_layers": 22,
            "num_attention_heads": 12,
            "hidden_activation": "gelu",
            "max_position_embeddings": 8192,
            "norm_eps": 1e-5,
            "global_attn_every_n_layers": 3,
            "local_attention": 128,
            "global_rope_theta": 160_000.0,
            "local_rope_theta": 10_000.0,
            "pad_token_id": 50283,
            "bos_token_id": 50281,
            "eos_token_id": 50282,
            "cls_token_id": 50281,
            "sep_token_id": 50282,
        },
        tensors=_tensors,
        tokenizer="byte-level",
    ),
    # Layers global, sliding, sliding, global; a radius of 16, so that 64 tokens and more go by blocks.
    tiny={
        "vocab_size": 600,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "max_position_embeddings": 72,
        "local_attention": 32,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "cls_token_id": 2,
        "sep_token_id": 1,
    },
)
