"""BERT and the models of its shape: MiniLM, BGE, E5, GTE and every other `model_type: bert` checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_embed_convert.families.family import (
    Family,
    Projection,
    RandomTensor,
    Released,
    positive,
    require_supported,
)
from edge_embed_convert.recipes.grammar import BALANCED_INT8

if TYPE_CHECKING:
    from torch import nn

    from edge_embed_convert.source.weights import Weights

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")


@dataclass(frozen=True)
class BertConfig:
    """The part of `config.json` that the encoder needs, checked."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    max_positions: int
    token_types: int
    eps: float
    activation: str

    @classmethod
    def parse(cls, raw: Mapping[str, Any], sliding_window: int | None = None) -> BertConfig:
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
        return cls(
            vocab_size=positive(raw, "vocab_size"),
            hidden_size=positive(raw, "hidden_size"),
            intermediate_size=positive(raw, "intermediate_size"),
            layers=positive(raw, "num_hidden_layers"),
            heads=positive(raw, "num_attention_heads"),
            max_positions=positive(raw, "max_position_embeddings"),
            token_types=positive(raw, "type_vocab_size", 2),
            eps=float(raw.get("layer_norm_eps", 1e-12)),
            activation=raw.get("hidden_act") or "gelu",
        )


def _build(weights: Weights, config: BertConfig, pad_id: int) -> nn.Module:
    from edge_embed_convert.families.bert.encoder import Bert  # brings PyTorch

    return Bert(weights, config, pad_id)


def _tensors(config: Mapping[str, Any]) -> Iterator[RandomTensor]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]

    def norm(name: str) -> Iterator[RandomTensor]:
        yield RandomTensor(f"{name}.weight", (hidden,), 0.2, mean=1.0)
        yield RandomTensor(f"{name}.bias", (hidden,), 0.1)

    def dense(name: str, out_features: int, in_features: int) -> Iterator[RandomTensor]:
        yield RandomTensor(f"{name}.weight", (out_features, in_features), 0.05)
        yield RandomTensor(f"{name}.bias", (out_features,))

    for name, rows in (
        ("word", "vocab_size"),
        ("position", "max_position_embeddings"),
        ("token_type", "type_vocab_size"),
    ):
        yield RandomTensor(f"embeddings.{name}_embeddings.weight", (config[rows], hidden), 0.05)
    yield from norm("embeddings.LayerNorm")
    for index in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{index}"
        for name in ("query", "key", "value"):
            yield from dense(f"{layer}.attention.self.{name}", hidden, hidden)
        yield from dense(f"{layer}.attention.output.dense", hidden, hidden)
        yield from norm(f"{layer}.attention.output.LayerNorm")
        yield from dense(f"{layer}.intermediate.dense", inner, hidden)
        yield from dense(f"{layer}.output.dense", hidden, inner)
        yield from norm(f"{layer}.output.LayerNorm")


FAMILY = Family(
    name="bert",
    model_types=("bert",),
    parse=BertConfig.parse,
    build=_build,
    projections={
        "query": Projection("attention", "inputs"),
        "key": Projection("attention", "inputs"),
        "value": Projection("attention", "value"),
        "output": Projection("attention", "output"),
        "up": Projection("feed_forward", "up"),
        "down": Projection("feed_forward", "down"),
    },
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
        tensors=_tensors,
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
