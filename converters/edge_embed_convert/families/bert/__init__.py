"""BERT and the models of its shape: MiniLM, BGE, E5, GTE and every other `model_type: bert` checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge_embed_convert.families.family import Family, Released, positive, require_supported
from edge_embed_convert.families.post_norm import (
    ACTIVATIONS,
    POST_NORM_PROJECTIONS,
    PostNormShape,
    post_norm_tensors,
)
from edge_embed_convert.recipes.grammar import BALANCED_INT8

if TYPE_CHECKING:
    from torch import nn

    from edge_embed_convert.source.weights import Weights


def parse(raw: Mapping[str, Any], sliding_window: int | None = None) -> PostNormShape:
    """Reads transformers' `config.json`; BERT has no sliding window.

    Raises:
        CheckpointError: If it is incomplete or asks for something this encoder does not compute.
    """
    require_supported(
        raw,
        {
            "hidden_act": ("gelu", ACTIVATIONS),
            "position_embedding_type": ("absolute", ("absolute",)),
            "is_decoder": (False, (False,)),
        },
    )
    return PostNormShape(
        vocab_size=positive(raw, "vocab_size"),
        hidden_size=positive(raw, "hidden_size"),
        intermediate_size=positive(raw, "intermediate_size"),
        layers=positive(raw, "num_hidden_layers"),
        heads=positive(raw, "num_attention_heads"),
        positions=positive(raw, "max_position_embeddings"),
        token_types=positive(raw, "type_vocab_size", 2),
        eps=float(raw.get("layer_norm_eps", 1e-12)),
        activation=raw.get("hidden_act") or "gelu",
    )


def _build(weights: Weights, config: PostNormShape, pad_id: int) -> nn.Module:
    from edge_embed_convert.layers.post_norm import PostNormEncoder  # brings PyTorch

    return PostNormEncoder(weights, config, pad_id)


FAMILY = Family(
    name="bert",
    model_types=("bert",),
    parse=parse,
    build=_build,
    projections=POST_NORM_PROJECTIONS,
    default_recipe="int8",
    recipes={"int8": BALANCED_INT8},
    evidence="all-MiniLM-L6-v2, real weights, 15 STS, retrieval and clustering sets: docs/recipes.md",
    prefixes=("bert.",),
    unused=(
        r"embeddings\.position_ids",  # a counter that old releases of transformers saved as a tensor
        r"pooler\.dense\.(weight|bias)",  # next-sentence head; sentence encoders pool the tokens themselves
        r"cls\..*",  # pre-training heads
    ),
    invented=("pooler.",),  # no pooling mode reads the next-sentence pooler
    released=Released(
        name="all-MiniLM-L6-v2",
        config={
            "architectures": ["BertModel"],
            "model_type": "bert",
            "vocab_size": 30522,
            "hidden_size": 384,
            "intermediate_size": 1536,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "hidden_act": "gelu",
            "max_position_embeddings": 512,
            "type_vocab_size": 2,
            "layer_norm_eps": 1e-12,
            "pad_token_id": 0,
        },
        tensors=post_norm_tensors,
        tokenizer="wordpiece",
    ),
    tiny={
        "vocab_size": 600,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    },
)
