"""RoBERTa, XLM-R and CamemBERT: BERT whose positions begin after the pad id, with one token type.

With a pad id of 1 a position table of 514 rows serves 512 tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge_embed.errors import CheckpointError
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
    """Reads transformers' `config.json`; these models have no sliding window.

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
    first, positions = positive(raw, "pad_token_id", 1) + 1, positive(raw, "max_position_embeddings")
    if positions <= first:
        raise CheckpointError(
            "the position table has no row for any token",
            got=f"max_position_embeddings = {positions}, pad_token_id = {first - 1}",
            expected="more positions than pad_token_id + 1",
        )
    return PostNormShape(
        vocab_size=positive(raw, "vocab_size"),
        hidden_size=positive(raw, "hidden_size"),
        intermediate_size=positive(raw, "intermediate_size"),
        layers=positive(raw, "num_hidden_layers"),
        heads=positive(raw, "num_attention_heads"),
        positions=positions,
        first_position=first,
        token_types=positive(raw, "type_vocab_size", 2),
        eps=float(raw.get("layer_norm_eps", 1e-12)),
        activation=raw.get("hidden_act") or "gelu",
    )


def _build(weights: Weights, config: PostNormShape, pad_id: int) -> nn.Module:
    from edge_embed_convert.layers.post_norm import PostNormEncoder  # brings PyTorch

    return PostNormEncoder(weights, config, pad_id)


FAMILY = Family(
    name="roberta",
    model_types=("roberta", "xlm-roberta", "camembert"),
    parse=parse,
    build=_build,
    projections=POST_NORM_PROJECTIONS,
    default_recipe="int8",
    recipes={"int8": BALANCED_INT8},
    evidence="the graph is BERT's, and so is what rounding does to it: BERT's and MPNet's measurements in "
    "docs/recipes.md. No real weights were at hand.",
    prefixes=("roberta.", "camembert."),
    unused=(
        r"embeddings\.position_ids",  # a counter that old releases of transformers saved as a tensor
        r"pooler\.dense\.(weight|bias)",  # sentence encoders pool the tokens themselves
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
    tiny={
        "vocab_size": 600,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 66,
    },
)
