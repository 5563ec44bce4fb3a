"""MPNet: BERT with biases of attention that depend on distance (`model_type: mpnet`), as all-mpnet-base-v2.

transformers always computes with 32 buckets and with pad id 1, whatever config.json says (release 5.24), so
another number is refused. Positions begin after the pad id, so two rows of the position table are never used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edge_embed_convert.families.family import RandomTensor, Released, require_supported
from edge_embed_convert.families.post_norm import (
    COUNTER,
    POOLER,
    TASK_HEAD,
    TINY,
    PostNormNames,
    PostNormShape,
    post_norm_family,
    post_norm_tensors,
    read_shape,
)

FIRST_POSITION = 2

BUCKETS = 32

NAMES = PostNormNames(
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    output="attention.attn.o",
    output_norm="attention.LayerNorm",
)


def parse(raw: Mapping[str, Any], sliding_window: int | None = None) -> PostNormShape:
    """Reads transformers' `config.json`; MPNet has no sliding window.

    Raises:
        CheckpointError: If it is incomplete or asks for something this encoder does not compute.
    """
    supported = {
        "relative_attention_num_buckets": (BUCKETS, (BUCKETS,)),
        "pad_token_id": (FIRST_POSITION - 1, (FIRST_POSITION - 1,)),
    }
    require_supported(raw, supported)
    return read_shape(raw, first_position=FIRST_POSITION, relative_buckets=BUCKETS)


def _tensors(config: Mapping[str, Any]) -> Iterator[RandomTensor]:
    return post_norm_tensors(config, NAMES)


FAMILY = post_norm_family(
    name="mpnet",
    model_types=("mpnet",),
    parse=parse,
    names=NAMES,
    evidence="the same layers as BERT, whose int8 file keeps the scores of all-MiniLM-L6-v2: docs/recipes.md",
    prefixes=("mpnet.",),
    unused=(
        COUNTER,
        TASK_HEAD,
        POOLER,
        r"lm_head\..*",  # pre-training head
    ),
    invented=("pooler.",),  # no pooling mode reads the pooler
    released=Released(
        name="all-mpnet-base-v2",
        config={
            "architectures": ["MPNetModel"],
            "model_type": "mpnet",
            "vocab_size": 30527,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "hidden_act": "gelu",
            "max_position_embeddings": 514,
            "layer_norm_eps": 1e-5,
            "relative_attention_num_buckets": BUCKETS,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
        },
        tensors=_tensors,
        tokenizer="wordpiece",
        extra_positions=FIRST_POSITION,
    ),
    tiny={**TINY, "max_position_embeddings": 66},
)
