"""NomicBERT (`model_type: nomic_bert`): BERT with rotary positions and a gated feed-forward, without biases.

Released checkpoints still describe the code that they came with. Their entries are read under their current
names, if all of them are there; that code is never run.
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
    head_size,
    rotary_theta,
)

if TYPE_CHECKING:
    from torch import nn

    from edge_embed_convert.source.weights import Weights

THETA = 1_000.0
"""The rotary base that transformers takes where config.json names none."""

RELEASED_NAMES = {
    "hidden_size": "n_embd",
    "intermediate_size": "n_inner",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "layer_norm_eps": "layer_norm_epsilon",
    "max_position_embeddings": "n_positions",
    "type_vocab_size": "type_vocab_size",
    "vocab_size": "vocab_size",
}
"""What the released code calls the entries of config.json."""

ACTIVATIONS = {"swiglu": "silu", "geglu": "gelu"}
"""What the released code calls the activation of the feed-forward's gate."""

RELEASED_FIXED: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "activation_function": (None, tuple(ACTIVATIONS)),
    "prenorm": (False, (False,)),
    "parallel_block": (False, (False,)),
    "causal": (False, (False,)),
    "use_rms_norm": (False, (False,)),
    "qkv_proj_bias": (None, (False,)),
    "mlp_fc1_bias": (None, (False,)),
    "mlp_fc2_bias": (None, (False,)),
    "rotary_emb_fraction": (None, (1.0,)),
    "rotary_emb_interleaved": (False, (False,)),
    "rotary_emb_scale_base": (0, (0,)),
    "num_experts": (0, (0,)),
}
"""What the released code can be set to otherwise, and what is computed."""


@dataclass(frozen=True)
class NomicBertConfig:
    """The part of `config.json` that the encoder needs, checked."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    head_dim: int
    token_types: int
    eps: float
    theta: float
    activation: str
    max_positions: int

    @classmethod
    def parse(cls, raw: Mapping[str, Any], sliding_window: int | None = None) -> NomicBertConfig:
        """Reads `config.json`, transformers' or that of the released code; there is no sliding window.

        Raises:
            CheckpointError: If it is incomplete or asks for something this encoder does not compute.
        """
        raw = in_current_names(raw)
        require_supported(raw, {"hidden_act": ("silu", ("silu", "gelu"))})
        hidden, heads = positive(raw, "hidden_size", 768), positive(raw, "num_attention_heads", 12)
        if raw.get("head_dim") is not None:
            head_dim = head_size(heads * positive(raw, "head_dim"), heads)
        else:
            head_dim = head_size(hidden, heads)
        return cls(
            vocab_size=positive(raw, "vocab_size", 30528),
            hidden_size=hidden,
            intermediate_size=positive(raw, "intermediate_size", 3072),
            layers=positive(raw, "num_hidden_layers", 12),
            heads=heads,
            head_dim=head_dim,
            token_types=positive(raw, "type_vocab_size", 2),
            eps=number(raw, "layer_norm_eps", 1e-12),
            theta=rotary_theta(raw, THETA),
            activation=raw.get("hidden_act") or "silu",
            max_positions=positive(raw, "max_position_embeddings", 2048),
        )


def in_current_names(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config.json with the entries of the released code under transformers' names.

    Args:
        raw: The parsed file; one of transformers is returned as it is.

    Raises:
        CheckpointError: If an entry of the released code is missing, or asks for something that is not
            computed.
    """
    if RELEASED_NAMES["hidden_size"] not in raw:
        return dict(raw)
    require_supported(raw, RELEASED_FIXED)
    missing = [name for name in (*RELEASED_NAMES.values(), "rotary_emb_base") if raw.get(name) is None]
    if missing:
        raise CheckpointError(
            "config.json describes only a part of the model",
            got=f"without {', '.join(missing)}",
            expected="every entry of the released configuration",
            fix="copy config.json from the original checkpoint",
        )
    current = {name: raw[released] for name, released in RELEASED_NAMES.items()}
    if raw.get("rotary_scaling_factor") is not None:
        # The base then grows with the text once that is longer than what the model was trained with.
        current["max_position_embeddings"] = positive(raw, "max_trained_positions")
    return {
        **raw,
        **current,
        "hidden_act": ACTIVATIONS[raw["activation_function"]],
        "rope_theta": raw["rotary_emb_base"],
    }


def _build(weights: Weights, config: NomicBertConfig, pad_id: int) -> nn.Module:
    from edge_embed_convert.families.nomic_bert.encoder import NomicBert  # brings PyTorch

    return NomicBert(weights, config, pad_id)


def _adapt_reference(config: Any, sliding_window: int | None) -> None:
    """Gives transformers, which knows its own names alone, the sizes of a released configuration."""
    raw = config.to_dict()
    if RELEASED_NAMES["hidden_size"] not in raw:
        return
    current = in_current_names(raw)
    for name in (*RELEASED_NAMES, "hidden_act"):
        setattr(config, name, current[name])
    config.head_dim = config.hidden_size // config.num_attention_heads
    config.rope_parameters = {"rope_type": "default", "rope_theta": float(current["rope_theta"])}


def _tensors(raw: Mapping[str, Any]) -> Iterator[RandomTensor]:
    config = NomicBertConfig.parse(raw)
    hidden, width = config.hidden_size, config.heads * config.head_dim

    def norm(name: str) -> Iterator[RandomTensor]:
        yield RandomTensor(f"{name}.weight", (hidden,), 0.2, mean=1.0)
        yield RandomTensor(f"{name}.bias", (hidden,), 0.1)

    yield RandomTensor("embeddings.word_embeddings.weight", (config.vocab_size, hidden), 0.05)
    yield RandomTensor("embeddings.token_type_embeddings.weight", (config.token_types, hidden), 0.05)
    yield from norm("embeddings.LayerNorm")
    for index in range(config.layers):
        layer = f"layers.{index}"
        yield from attention_tensors(layer, hidden, width, width, 0.05)
        yield from gated_tensors(layer, hidden, config.intermediate_size, 0.05)
        yield from norm(f"{layer}.post_attention_layernorm")
        yield from norm(f"{layer}.post_mlp_layernorm")


FAMILY = Family(
    name="nomic_bert",
    model_types=("nomic_bert",),
    parse=NomicBertConfig.parse,
    build=_build,
    projections=ROTARY_PROJECTIONS,
    default_recipe="int8",
    evidence=NOT_MEASURED,
    prefixes=("nomic_bert.", "bert."),
    unused=(r"(pooler|cls)\..*", r".*rotary_emb\..*inv_freq.*"),
    adapt_reference=_adapt_reference,
    matryoshka=(768, 512, 256, 128, 64),
    default_max_tokens=2048,
    released=Released(
        name="nomic-embed-text-v1.5",
        config={
            "architectures": ["NomicBertModel"],
            "model_type": "nomic_bert",
            "vocab_size": 30528,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "hidden_act": "silu",
            "max_position_embeddings": 2048,
            "type_vocab_size": 2,
            "layer_norm_eps": 1e-12,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1_000.0},
            "pad_token_id": 0,
        },
        tensors=_tensors,
        tokenizer="wordpiece",
        prompts={"query": "search_query: ", "document": "search_document: "},
    ),
    tiny={
        "vocab_size": 600,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 72,
    },
)
