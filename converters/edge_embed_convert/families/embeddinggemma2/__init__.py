"""EmbeddingGemma 2, the text part (`model_type: embedding_gemma2_text` alone, or `embedding_gemma2`).

Against EmbeddingGemma: the window is a radius, global layers have wider heads, gains are stored without
the one subtracted, and every layer mixes in a projection of the token embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_embed.errors import CheckpointError
from edge_embed_convert.families.family import (
    Family,
    Projection,
    RandomTensor,
    Released,
    number,
    part,
    positive,
    require_supported,
)
from edge_embed_convert.families.rotary import (
    FULL,
    ROTARY_PROJECTIONS,
    SLIDING,
    attention_tensors,
    gated_tensors,
    sliding_layers,
)

if TYPE_CHECKING:
    from torch import nn

    from edge_embed_convert.source.weights import Weights

DEFAULT_ROPE: dict[str, dict[str, Any]] = {
    SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
    FULL: {"rope_type": "default", "rope_theta": 1_000_000.0},
}
"""What transformers takes where config.json has no `rope_parameters`."""

ROPE_TYPES = ("default", "proportional")


@dataclass(frozen=True)
class Attention:
    """The sizes of one layer's attention.

    Attributes:
        sliding: Whether it sees a window only.
        head_dim: Size of a head.
        kv_heads: How many heads keys and values have.
    """

    sliding: bool
    head_dim: int
    kv_heads: int


@dataclass(frozen=True)
class Rotary:
    """A rotary embedding: its base, the divisor of positions, and the share of a head that it rotates."""

    theta: float
    factor: float
    share: float


@dataclass(frozen=True)
class EmbeddingGemma2Config:
    """The part of `config.json` that the encoder needs, checked.

    Attributes:
        stream_size: Length of a token's vector between layers.
        hidden_size: Length of a token's vector after the last projection.
        mixed_size: Length of the vector that each layer mixes in.
    """

    vocab_size: int
    stream_size: int
    hidden_size: int
    intermediate_size: int
    mixed_size: int
    heads: int
    eps: float
    window_radius: int
    attention: tuple[Attention, ...]
    rotary: Mapping[bool, Rotary]
    attention_bias: bool
    max_positions: int

    @classmethod
    def parse(cls, raw: Mapping[str, Any], sliding_window: int | None = None) -> EmbeddingGemma2Config:
        """Reads transformers' `config.json`, of the text part or of the whole model.

        Args:
            raw: The parsed file.
            sliding_window: Overrides the radius of the window.

        Raises:
            CheckpointError: If it is incomplete or asks for something this encoder does not compute.
        """
        if raw.get("model_type") == "embedding_gemma2":
            raw = part(raw, "text_config")
            if not raw:
                raise CheckpointError("config.json has no text part", expected="an object text_config")
        require_supported(raw, {"hidden_activation": ("gelu_pytorch_tanh", ("gelu_pytorch_tanh",))})
        return cls(
            vocab_size=positive(raw, "vocab_size", 262144),
            stream_size=positive(raw, "hidden_size", 512),
            hidden_size=positive(raw, "embedding_dim", 768),
            intermediate_size=positive(raw, "intermediate_size", 2048),
            mixed_size=positive(raw, "hidden_size_per_layer_input", 512),
            heads=positive(raw, "num_attention_heads", 4),
            eps=number(raw, "rms_norm_eps", 1e-6),
            window_radius=sliding_window or positive(raw, "sliding_window", 512),
            attention=_attention(raw),
            rotary=_rotary(raw),
            attention_bias=bool(raw.get("attention_bias", False)),
            max_positions=positive(raw, "max_position_embeddings", 262144),
        )


def _attention(raw: Mapping[str, Any]) -> tuple[Attention, ...]:
    layers = positive(raw, "num_hidden_layers", 24)
    pattern = positive(raw, "sliding_window_pattern", 6)
    sliding_by_file = sliding_layers(raw, layers, pattern, full_at=pattern - 1)
    # transformers makes the last layer global whatever the file says.
    kinds = [SLIDING if sliding else FULL for sliding in (*sliding_by_file[:-1], False)]
    sizes = {
        SLIDING: (positive(raw, "head_dim", 256), positive(raw, "num_key_value_heads", 2)),
        FULL: (positive(raw, "global_head_dim", 512), positive(raw, "num_global_key_value_heads", 1)),
    }
    own = part(raw, "per_layer_config")
    if raw.get("per_layer_config") is not None:
        sizes[FULL] = sizes[SLIDING]  # what the file names no size for has the general one
    found = []
    for index, kind in enumerate(kinds):
        entry = part(own, str(index))
        head_dim, kv_heads = sizes[kind]
        found.append(
            Attention(
                kind == SLIDING,
                positive(entry, "head_dim", head_dim),
                positive(entry, "num_key_value_heads", kv_heads),
            )
        )
    for sliding in (True, False):
        if len({layer.head_dim for layer in found if layer.sliding == sliding}) > 1:
            raise CheckpointError(
                "layers of one kind have heads of different sizes",
                got=f"per_layer_config = {own}",
                expected=f"one head_dim for all {SLIDING if sliding else FULL} layers",
            )
    return tuple(found)


def _rotary(raw: Mapping[str, Any]) -> dict[bool, Rotary]:
    parameters = part(raw, "rope_parameters") or DEFAULT_ROPE
    found = {}
    for kind in (SLIDING, FULL):
        values = part(parameters, kind) or DEFAULT_ROPE[kind]
        rope = values.get("rope_type", "default")
        if rope not in ROPE_TYPES:
            raise CheckpointError(
                "unsupported rotary embedding",
                got=f"rope_type = {rope!r}",
                expected=" or ".join(map(repr, ROPE_TYPES)),
            )
        partial = rope == "proportional"
        found[kind == SLIDING] = Rotary(
            number(values, "rope_theta", DEFAULT_ROPE[kind]["rope_theta"]),
            number(values, "factor", 1.0) if partial else 1.0,
            number(values, "partial_rotary_factor", 1.0) if partial else 1.0,
        )
    return found


def _build(weights: Weights, config: EmbeddingGemma2Config, pad_id: int) -> nn.Module:
    from edge_embed_convert.families.embeddinggemma2.encoder import EmbeddingGemma2  # brings PyTorch

    return EmbeddingGemma2(weights, config, pad_id)


def _adapt_reference(config: Any, sliding_window: int | None) -> None:
    if sliding_window is not None:
        getattr(config, "text_config", config).sliding_window = sliding_window


def _tensors(raw: Mapping[str, Any]) -> Iterator[RandomTensor]:
    config = EmbeddingGemma2Config.parse(raw)
    stream, inner, mixed = config.stream_size, config.intermediate_size, config.mixed_size
    yield RandomTensor("embed_tokens.weight", (config.vocab_size, stream), 0.05)
    for index, attention in enumerate(config.attention):
        layer = f"layers.{index}"
        query, key = config.heads * attention.head_dim, attention.kv_heads * attention.head_dim
        yield from attention_tensors(layer, stream, query, key)
        # Scores are not divided by the size of a head, so gains are small.
        for name in ("q", "k"):
            yield RandomTensor(f"{layer}.self_attn.{name}_norm.weight", (attention.head_dim,), 0.05, mean=0.3)
        yield from gated_tensors(layer, stream, inner)
        for name in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            yield RandomTensor(f"{layer}.{name}_layernorm.weight", (stream,), 0.3, mean=1.0)
        yield RandomTensor(f"{layer}.ple_block.per_layer_input_gate.weight", (mixed, stream))
        yield RandomTensor(f"{layer}.ple_block.per_layer_projection.weight", (stream, mixed))
        yield RandomTensor(f"{layer}.ple_block.post_per_layer_input_norm.weight", (stream,), 0.3, mean=1.0)
        yield RandomTensor(f"{layer}.layer_scalar", (1,), 0.05, mean=0.9)
    yield RandomTensor("norm.weight", (stream,), 0.3, mean=1.0)
    yield RandomTensor("ple.per_layer_model_projection.weight", (len(config.attention) * mixed, stream), 0.05)
    yield RandomTensor("ple.per_layer_projection_norm.weight", (mixed,), 0.3, mean=1.0)
    yield RandomTensor("embedding_projection.weight", (config.hidden_size, stream), 0.05)


FAMILY = Family(
    name="embeddinggemma2",
    model_types=("embedding_gemma2_text", "embedding_gemma2"),
    parse=EmbeddingGemma2Config.parse,
    build=_build,
    projections={
        **ROTARY_PROJECTIONS,
        "mix_input": Projection("feed_forward", "mix_input"),
        "mix_gate": Projection("feed_forward", "mix_gate"),
        "mix_output": Projection("feed_forward", "mix_output"),
    },
    default_recipe="int8",
    evidence="int8 lost little in every model that was measured. Whether the weights were trained for int4, "
    "as EmbeddingGemma's were, is not known; they were not at hand.",
    prefixes=("model.", "language_model."),
    unused=(r"(vision_tower|embed_vision|audio_tower|embed_audio)\..*", r".*rotary_emb\..*inv_freq.*"),
    adapt_reference=_adapt_reference,
    matryoshka=(768, 512, 256, 128),
    default_max_tokens=2048,
    released=Released(
        name="embeddinggemma-2 (text)",
        config={
            "architectures": ["EmbeddingGemma2TextModel"],
            "model_type": "embedding_gemma2_text",
            "vocab_size": 262144,
            "hidden_size": 512,
            "intermediate_size": 2048,
            "num_hidden_layers": 24,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 256,
            "global_head_dim": 512,
            "num_global_key_value_heads": 1,
            "hidden_activation": "gelu_pytorch_tanh",
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-6,
            "sliding_window": 512,
            "hidden_size_per_layer_input": 512,
            "embedding_dim": 768,
            "rope_parameters": {
                SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
                FULL: {"rope_type": "proportional", "rope_theta": 1_000_000.0, "partial_rotary_factor": 0.25},
            },
            "pad_token_id": 0,
            "eos_token_id": 1,
            "bos_token_id": 2,
        },
        tensors=_tensors,
        tokenizer="gemma",
        width_key="embedding_dim",
        prompts={"query": "task: search result | query: ", "document": "title: none | text: "},
    ),
    # Layers sliding, sliding, global, global; a radius of 16, so that 64 tokens and more go by blocks.
    tiny={
        "vocab_size": 600,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "global_head_dim": 64,
        "max_position_embeddings": 72,
        "sliding_window": 16,
        "sliding_window_pattern": 3,
        "hidden_size_per_layer_input": 32,
        "embedding_dim": 96,
    },
)
