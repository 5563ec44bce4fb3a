"""Weights: from a Gemma 3 decoder to an encoder-decoder, and from that to an encoder.

The encoder-decoder is T5Gemma 2 (arXiv 2512.14856), from transformers: its decoder attends to its own
tokens and to the encoder's with one set of projections, so that a decoder's weights fill both halves and
nothing is new.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from edge_embed.errors import CheckpointError

NORMS = {
    "input_layernorm": "pre_self_attn_layernorm",
    "post_attention_layernorm": "post_self_attn_layernorm",
}
"""Gemma 3's names of norms and T5Gemma 2's, where they differ."""

NO_VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "image_size": 14,
    "patch_size": 14,
}
"""T5Gemma 2 has a vision tower, which texts never reach; this is the smallest."""

SHARED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_activation",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "attention_bias",
    "query_pre_attn_scalar",
    "sliding_window",
    "layer_types",
    "rope_parameters",
    "pad_token_id",
    "eos_token_id",
    "bos_token_id",
)
"""Entries of the configuration that all three models have."""


def encoder_decoder(decoder: Any, *, copy: bool = True) -> Any:
    """Returns a T5Gemma 2 whose both halves have a decoder's weights.

    Args:
        decoder: A `Gemma3ForCausalLM`.
        copy: False leaves the weights random: the control that shows what the decoder's are worth.

    Raises:
        CheckpointError: If it is another architecture.
    """
    from transformers import T5Gemma2Config, T5Gemma2ForConditionalGeneration

    if decoder.config.model_type != "gemma3_text":
        raise CheckpointError(
            "only a Gemma 3 text decoder can be adapted",
            got=f"model_type = {decoder.config.model_type!r}",
            expected="'gemma3_text'",
        )
    shared = {key: getattr(decoder.config, key) for key in SHARED}
    text = {**shared, "tie_word_embeddings": True, "attention_dropout": 0.0}
    config = T5Gemma2Config(
        encoder={
            "text_config": text,
            "vision_config": NO_VISION,
            "mm_tokens_per_image": 1,
            "eoi_token_index": shared["vocab_size"],  # no token of the text is one of images
            "image_token_index": shared["vocab_size"],
        },
        decoder=text,
        image_token_index=shared["vocab_size"],
        **{key: shared[key] for key in ("pad_token_id", "eos_token_id", "bos_token_id", "vocab_size")},
    )
    model = T5Gemma2ForConditionalGeneration(config)
    if copy:
        source = decoder.model.state_dict()
        with torch.no_grad():
            for half in (model.model.encoder.text_model, model.model.decoder):
                _copy(source, half)
    model.tie_weights()
    for parameter in _vision(model):
        parameter.requires_grad_(False)
    return model


def encoder_of(model: Any, config: Any) -> Any:
    """Returns the encoder of a T5Gemma 2 as a bidirectional `Gemma3TextModel`.

    Args:
        model: From `encoder_decoder`.
        config: The decoder's configuration, which the encoder takes over.
    """
    from transformers import Gemma3TextConfig, Gemma3TextModel

    settings = {key: getattr(config, key) for key in SHARED}
    encoder = Gemma3TextModel(Gemma3TextConfig(**settings, use_bidirectional_attention=True))
    back = {theirs: ours for ours, theirs in NORMS.items()}
    source = model.model.encoder.text_model.state_dict()
    renamed = {_renamed(name, back): tensor for name, tensor in source.items() if "eoi_embedding" not in name}
    encoder.load_state_dict(renamed)
    return encoder.eval()


def _copy(source: dict[str, torch.Tensor], half: nn.Module) -> None:
    """Copies a decoder's weights into one half; none may be missing or left over."""
    renamed = {_renamed(name, NORMS): tensor for name, tensor in source.items()}
    missing, unexpected = half.load_state_dict(renamed, strict=False)
    missing = [name for name in missing if "eoi_embedding" not in name]
    if missing or unexpected:
        raise CheckpointError(
            "the decoder's weights do not fit into the encoder-decoder",
            got=", ".join([*missing, *unexpected][:5]),
            expected="the same weights in both",
        )


def _renamed(name: str, names: dict[str, str]) -> str:
    return ".".join(names.get(part, part) for part in name.split("."))


def _vision(model: Any) -> list[nn.Parameter]:
    encoder = model.model.encoder
    parts = (encoder.vision_tower, encoder.multi_modal_projector)
    images = [parameter for part in parts for parameter in part.parameters()]
    return images + [p for name, p in model.named_parameters() if name.endswith("eoi_embedding")]
