"""BERT and the models of its shape: MiniLM, BGE, E5, GTE and every other `model_type: bert` checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_embed_convert.families.family import Released
from edge_embed_convert.families.post_norm import (
    COUNTER,
    POOLER,
    TASK_HEAD,
    TINY,
    PostNormShape,
    post_norm_family,
    post_norm_tensors,
    read_bert,
)


def parse(raw: Mapping[str, Any], sliding_window: int | None = None) -> PostNormShape:
    """Reads transformers' `config.json`; BERT has no sliding window.

    Raises:
        CheckpointError: If it is incomplete or asks for something this encoder does not compute.
    """
    return read_bert(raw)


FAMILY = post_norm_family(
    name="bert",
    model_types=("bert",),
    parse=parse,
    evidence="all-MiniLM-L6-v2, real weights, 15 STS, retrieval and clustering sets: docs/recipes.md",
    prefixes=("bert.",),
    unused=(
        COUNTER,
        TASK_HEAD,
        POOLER,
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
    tiny=TINY,
)
