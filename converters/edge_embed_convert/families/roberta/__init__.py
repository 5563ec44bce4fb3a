"""RoBERTa, XLM-R and CamemBERT: BERT whose positions begin after the pad id, with one token type.

With a pad id of 1 a position table of 514 rows serves 512 tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_embed.errors import CheckpointError
from edge_embed_convert.families.family import Released, natural, positive
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
    """Reads transformers' `config.json`; these models have no sliding window.

    Raises:
        CheckpointError: If it is incomplete or asks for something this encoder does not compute.
    """
    first, positions = natural(raw, "pad_token_id", 1) + 1, positive(raw, "max_position_embeddings")
    if positions <= first:
        raise CheckpointError(
            "the position table has no row for any token",
            got=f"max_position_embeddings = {positions}, pad_token_id = {first - 1}",
            expected="more positions than pad_token_id + 1",
        )
    return read_bert(raw, first_position=first)


FAMILY = post_norm_family(
    name="roberta",
    model_types=("roberta", "xlm-roberta", "camembert"),
    parse=parse,
    evidence="the graph is BERT's, and so is what rounding does to it: BERT's and MPNet's measurements in "
    "docs/recipes.md. No real weights were at hand.",
    prefixes=("roberta.", "camembert."),
    unused=(
        COUNTER,
        TASK_HEAD,
        POOLER,
        r"lm_head\..*",  # pre-training head
    ),
    invented=("pooler.",),  # no pooling mode reads the pooler
    released=Released(
        name="multilingual-e5-base",
        config={
            "architectures": ["XLMRobertaModel"],
            "model_type": "xlm-roberta",
            "vocab_size": 250002,
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "hidden_act": "gelu",
            "max_position_embeddings": 514,
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
        },
        tensors=post_norm_tensors,
        tokenizer="unigram",
        extra_positions=2,
    ),
    tiny={**TINY, "max_position_embeddings": 66},
)
