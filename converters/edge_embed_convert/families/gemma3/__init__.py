"""EmbeddingGemma: Gemma 3's text stack with bidirectional attention (`model_type: gemma3_text`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_embed.errors import CheckpointError
from edge_embed_convert.families.family import Family, RandomTensor, Released, number, part, positive
from edge_embed_convert.families.rotary import (
    ROTARY_PROJECTIONS,
    attention_tensors,
    first_number,
    gated_tensors,
    sliding_layers,
)

if TYPE_CHECKING:
    from torch import nn

    from edge_embed_convert.source.weights import Weights

RELEASED_WINDOW = 512
RELEASED_SHAPE = {"hidden_size": 768, "num_hidden_layers": 24, "vocab_size": 262144}


@dataclass(frozen=True)
class Gemma3Config:
    """The part of `config.json` that the encoder needs, checked."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    attention_scale: float
    window_radius: int
    sliding: tuple[bool, ...]
    rope_theta_global: float
    rope_theta_local: float
    rope_factor_global: float
    attention_bias: bool
    max_positions: int

    @classmethod
    def parse(cls, raw: Mapping[str, Any], sliding_window: int | None = None) -> Gemma3Config:
        """Reads transformers' `config.json`, old style or new.

        Args:
            raw: The parsed file.
            sliding_window: Overrides the file's window, in its own units (512 means 256 each side).

        Raises:
            CheckpointError: If the configuration is not a bidirectional Gemma 3 text encoder, or its
                window looks as if a save had halved it.
        """
        if raw.get("use_bidirectional_attention") is not True:
            raise CheckpointError(
                "this Gemma 3 checkpoint is a decoder, not an encoder",
                got=f"use_bidirectional_attention = {raw.get('use_bidirectional_attention')!r}",
                expected="true, as in EmbeddingGemma",
                fix="pass a checkpoint fine-tuned from EmbeddingGemma",
            )
        _refuse_unknown(raw)
        layers, pattern = positive(raw, "num_hidden_layers"), _pattern(raw)
        window = sliding_window if sliding_window is not None else _checked_window(raw)
        theta_global, theta_local, factor = _rope(raw)
        return cls(
            vocab_size=positive(raw, "vocab_size"),
            hidden_size=positive(raw, "hidden_size"),
            intermediate_size=positive(raw, "intermediate_size"),
            layers=layers,
            heads=positive(raw, "num_attention_heads"),
            kv_heads=positive(raw, "num_key_value_heads"),
            head_dim=positive(raw, "head_dim"),
            eps=number(raw, "rms_norm_eps", 1e-6),
            attention_scale=number(raw, "query_pre_attn_scalar", 256) ** -0.5,
            window_radius=window // 2,
            # Not `_sliding_window_pattern`: transformers writes that one and never reads it.
            sliding=sliding_layers(raw, layers, pattern, full_at=pattern - 1),
            rope_theta_global=theta_global,
            rope_theta_local=theta_local,
            rope_factor_global=factor,
            attention_bias=bool(raw.get("attention_bias", False)),
            max_positions=positive(raw, "max_position_embeddings"),
        )


def _pattern(raw: Mapping[str, Any]) -> int:
    return 6 if raw.get("sliding_window_pattern") is None else positive(raw, "sliding_window_pattern")


def _refuse_unknown(raw: Mapping[str, Any]) -> None:
    """Refuses features that would change the vectors and that this encoder does not compute."""
    activation = raw.get("hidden_activation", "gelu_pytorch_tanh")
    if activation != "gelu_pytorch_tanh":
        raise CheckpointError("unsupported activation", got=repr(activation), expected="'gelu_pytorch_tanh'")
    if raw.get("attn_logit_softcapping"):
        raise CheckpointError(
            "attention logit softcapping is not supported",
            got=repr(raw["attn_logit_softcapping"]),
            expected="null, as in Gemma 3",
        )


def _checked_window(raw: Mapping[str, Any]) -> int:
    """Returns `sliding_window` unless it looks halved by a save.

    transformers turns the file's 512 into the exclusive bound 257 at load, and releases that wrote the
    bound back halved it at each save and reload (transformers#47940): 257, 129, 65, always odd, or an
    even half of it where a repaired release saved the damage on.
    """
    window = positive(raw, "sliding_window")
    released = all(raw.get(key) == value for key, value in RELEASED_SHAPE.items())
    if window % 2 or (released and window != RELEASED_WINDOW):
        raise CheckpointError(
            "the sliding window looks as if saving the checkpoint had halved it",
            got=f"sliding_window = {window}",
            expected=f"{RELEASED_WINDOW}, as EmbeddingGemma was released" if released else "an even number",
            fix="set sliding_window in config.json to the value the model was trained with, "
            "or pass it with --sliding-window",
        )
    return window


def _rope(raw: Mapping[str, Any]) -> tuple[float, float, float]:
    """Returns the rotary bases of global and local layers, and the global layers' position divisor."""
    parameters = part(raw, "rope_parameters")
    whole = {**part(parameters, "full_attention"), **part(raw, "rope_scaling")}
    local = part(parameters, "sliding_attention")
    kind = whole.get("rope_type", "default")
    if kind not in ("default", "linear") or local.get("rope_type", "default") != "default":
        raise CheckpointError(
            "unsupported rotary embedding", got=f"rope_type = {kind!r}", expected="'default' or 'linear'"
        )
    return (
        first_number(1_000_000.0, (whole, "rope_theta"), (raw, "rope_theta")),
        first_number(10_000.0, (local, "rope_theta"), (raw, "rope_local_base_freq")),
        number(whole, "factor", 1.0) if kind == "linear" else 1.0,
    )


def _build(weights: Weights, config: Gemma3Config, pad_id: int) -> nn.Module:
    from edge_embed_convert.families.gemma3.encoder import Gemma3  # brings PyTorch

    return Gemma3(weights, config, pad_id)


def _adapt_reference(config: Any, sliding_window: int | None) -> None:
    if sliding_window is not None:
        # transformers keeps the exclusive bound where the file has the whole window.
        config.sliding_window = sliding_window // 2 + 1


def _tensors(config: Mapping[str, Any]) -> Iterator[RandomTensor]:
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    query, key = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    yield RandomTensor("embed_tokens.weight", (config["vocab_size"], hidden), 0.05)
    for index in range(config["num_hidden_layers"]):
        layer = f"layers.{index}"
        yield from attention_tensors(layer, hidden, query, key)
        for name in ("q", "k"):
            yield RandomTensor(f"{layer}.self_attn.{name}_norm.weight", (head,), 0.3)
        yield from gated_tensors(layer, hidden, inner)
        for name in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            yield RandomTensor(f"{layer}.{name}_layernorm.weight", (hidden,), 0.3)
    yield RandomTensor("norm.weight", (hidden,), 0.3)


FAMILY = Family(
    name="embeddinggemma",
    model_types=("gemma3_text",),
    parse=Gemma3Config.parse,
    build=_build,
    projections=ROTARY_PROJECTIONS,
    default_recipe="mixed",
    evidence="the per-channel scheme of the released quantized checkpoints (arXiv 2509.20354): 61.15 to "
    "60.69 on MTEB multilingual. Those were trained for it; the gated weights were not measured here.",
    prefixes=("model.",),
    unused=(r"(lm_head|.*rotary_emb\..*inv_freq).*",),
    adapt_reference=_adapt_reference,
    needs_dense=("2_Dense", "3_Dense"),
    matryoshka=(768, 512, 256, 128),
    released=Released(
        name="embeddinggemma-300m",
        config={
            "architectures": ["Gemma3TextModel"],
            "model_type": "gemma3_text",
            "vocab_size": 262144,
            "hidden_size": 768,
            "intermediate_size": 1152,
            "num_hidden_layers": 24,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "hidden_activation": "gelu_pytorch_tanh",
            "max_position_embeddings": 2048,
            "query_pre_attn_scalar": 256,
            "rms_norm_eps": 1e-6,
            "sliding_window": 512,
            "_sliding_window_pattern": 6,
            "rope_theta": 1_000_000.0,
            "rope_local_base_freq": 10_000.0,
            "use_bidirectional_attention": True,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "bos_token_id": 2,
        },
        tensors=_tensors,
        tokenizer="gemma",
        dense=(4, 1),
        prompts={
            "query": "task: search result | query: ",
            "document": "title: none | text: ",
            "STS": "task: sentence similarity | query: ",
            "Classification": "task: classification | query: ",
            "Clustering": "task: clustering | query: ",
        },
    ),
    # Layers sliding, sliding, global, sliding; a radius of 16, so that 64 tokens and more go by blocks.
    tiny={
        "vocab_size": 600,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "max_position_embeddings": 72,
        "query_pre_attn_scalar": 32,
        "sliding_window": 32,
        "sliding_window_pattern": 3,
    },
)
