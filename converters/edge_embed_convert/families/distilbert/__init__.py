"""DistilBERT: BERT without token types and with names of its own (`model_type: distilbert`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edge_embed_convert.families.family import RandomTensor, Released, positive, require_supported
from edge_embed_convert.families.post_norm import (
    COUNTER,
    TASK_HEAD,
    PostNormNames,
    PostNormShape,
    post_norm_family,
    post_norm_tensors,
)

NAMES = PostNormNames(
    layers="transformer.layer",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    output="attention.out_lin",
    output_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    down_norm="output_layer_norm",
)

EPS = 1e-12
"""transformers' DistilBERT does not read the epsilon of its norms from config.json."""


def parse(raw: Mapping[str, Any], sliding_window: int | None = None) -> PostNormShape:
    """Reads transformers' `config.json`; DistilBERT has no sliding window.

    Raises:
        CheckpointError: If it is incomplete or asks for something this encoder does not compute.
    """
    require_supported(raw, {"activation": ("gelu", ("gelu", "relu"))})
    return PostNormShape(
        vocab_size=positive(raw, "vocab_size"),
        hidden_size=positive(raw, "dim"),
        intermediate_size=positive(raw, "hidden_dim"),
        layers=positive(raw, "n_layers"),
        heads=positive(raw, "n_heads"),
        positions=positive(raw, "max_position_embeddings"),
        eps=EPS,
        activation=raw.get("activation") or "gelu",
    )


def _tensors(config: Mapping[str, Any]) -> Iterator[RandomTensor]:
    keys = {
        "vocab_size": "vocab_size",
        "max_position_embeddings": "max_position_embeddings",
        "hidden_size": "dim",
        "intermediate_size": "hidden_dim",
        "num_hidden_layers": "n_layers",
    }
    return post_norm_tensors({name: config[key] for name, key in keys.items()}, NAMES)


FAMILY = post_norm_family(
    name="distilbert",
    model_types=("distilbert",),
    parse=parse,
    names=NAMES,
    evidence="the graph is BERT's, and so is what rounding does to it: BERT's measurements in "
    "docs/recipes.md. No real weights were at hand.",
    prefixes=("distilbert.",),
    unused=(
        COUNTER,
        TASK_HEAD,
        r"vocab_(transform|layer_norm|projector)\..*",  # pre-training head
    ),
    released=Released(
        name="msmarco-distilbert-base-v4",
        config={
            "architectures": ["DistilBertModel"],
            "model_type": "distilbert",
            "vocab_size": 30522,
            "dim": 768,
            "hidden_dim": 3072,
            "n_layers": 6,
            "n_heads": 12,
            "activation": "gelu",
            "max_position_embeddings": 512,
            "sinusoidal_pos_embds": False,
            "pad_token_id": 0,
        },
        tensors=_tensors,
        tokenizer="wordpiece",
        width_key="dim",
    ),
    tiny={
        "vocab_size": 600,
        "dim": 64,
        "hidden_dim": 96,
        "n_layers": 2,
        "n_heads": 4,
        "max_position_embeddings": 64,
    },
)
