"""Static models (sentence-transformers' StaticEmbedding, model2vec, potion): a mean of token vectors.

Rows that tokens share and weights of tokens are folded into one row a token, as sentence-transformers does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_embed_convert.families.family import Family, RandomTensor, Released, positive

if TYPE_CHECKING:
    from torch import nn

    from edge_embed_convert.source.weights import Weights


@dataclass(frozen=True)
class StaticConfig:
    """The sizes of a static model.

    Attributes:
        vocab_size: Rows of the table, the row that pads included; it is the last.
        hidden_size: Length of a token's vector.
        max_positions: The longest input in tokens.
        rows: Rows of the table in the checkpoint.
        mapped: Whether tokens share them.
        weighted: Whether tokens have weights.
    """

    vocab_size: int
    hidden_size: int
    max_positions: int
    rows: int
    mapped: bool
    weighted: bool

    @classmethod
    def parse(cls, raw: Mapping[str, Any], sliding_window: int | None = None) -> StaticConfig:
        """Reads what `source.static.static_config` gives."""
        return cls(
            vocab_size=positive(raw, "vocab_size"),
            hidden_size=positive(raw, "hidden_size"),
            max_positions=positive(raw, "max_position_embeddings"),
            rows=positive(raw, "rows", positive(raw, "vocab_size")),
            mapped=bool(raw.get("mapped")),
            weighted=bool(raw.get("weighted")),
        )


def _build(weights: Weights, config: StaticConfig, pad_id: int) -> nn.Module:
    from edge_embed_convert.families.static.encoder import Static  # brings PyTorch

    return Static(weights, config, pad_id)


def _tensors(raw: Mapping[str, Any]) -> Iterator[RandomTensor]:
    yield RandomTensor("embedding.weight", (raw["vocab_size"], raw["hidden_size"]), 0.5)


FAMILY = Family(
    name="static",
    model_types=("static",),
    parse=StaticConfig.parse,
    build=_build,
    projections={},
    default_recipe="int8",
    evidence="the mean over a text's tokens averages what rounding does to each row. No real weights were at "
    "hand.",
    default_max_tokens=2048,
    without_transformers=True,
    released=Released(
        name="potion-base-8M",
        config={"vocab_size": 29528, "hidden_size": 256},
        tensors=_tensors,
        tokenizer="wordpiece",
    ),
    tiny={"vocab_size": 600, "hidden_size": 64},
)
