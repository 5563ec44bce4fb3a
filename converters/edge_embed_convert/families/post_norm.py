"""What the families of BERT's shape share, without PyTorch: sizes, names of weights, and random weights.

Their encoder is `layers.post_norm.PostNormEncoder`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_embed.errors import CheckpointError
from edge_embed_convert.families.family import (
    Family,
    Projection,
    RandomTensor,
    Released,
    number,
    positive,
    require_supported,
)
from edge_embed_convert.recipes.grammar import BALANCED_INT8

if TYPE_CHECKING:
    from torch import nn

    from edge_embed_convert.source.weights import Weights

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
"""Activations of the feed-forward that are computed here, as config.json names them."""

POST_NORM_PROJECTIONS = {
    "query": Projection("attention", "inputs"),
    "key": Projection("attention", "inputs"),
    "value": Projection("attention", "inputs"),
    "output": Projection("attention", "output"),
    "up": Projection("feed_forward", "up"),
    "down": Projection("feed_forward", "down"),
}
"""The linear layers of `PostNormEncoder`."""


@dataclass(frozen=True)
class PostNormShape:
    """The sizes of an encoder.

    Attributes:
        vocab_size: Rows of the embedding table.
        hidden_size: Length of a token's vector.
        intermediate_size: Length of a token's vector inside the feed-forward.
        layers: How many layers there are.
        heads: How many heads attention has.
        positions: Rows of the position table.
        first_position: The row of the position table that the first token takes.
        token_types: Rows of the token type table; 0 if there is none.
        eps: Added to the variance in norms.
        activation: One of `ACTIVATIONS`.
        relative_buckets: Rows of the table of relative attention biases; 0 if there is none.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    positions: int
    first_position: int = 0
    token_types: int = 0
    eps: float = 1e-12
    activation: str = "gelu"
    relative_buckets: int = 0

    @property
    def max_positions(self) -> int:
        """The longest input in tokens, special tokens included."""
        return self.positions - self.first_position


@dataclass(frozen=True)
class PostNormNames:
    """What a family's checkpoints call the weights of a layer; by default as BERT does.

    Attributes:
        layers: The prefix of the layers.
        relative: The table of relative attention biases.
    """

    layers: str = "encoder.layer"
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    output: str = "attention.output.dense"
    output_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    down_norm: str = "output.LayerNorm"
    relative: str = "encoder.relative_attention_bias.weight"


def read_shape(raw: Mapping[str, Any], **others: Any) -> PostNormShape:
    """Returns the sizes that a config.json with BERT's keys names.

    Args:
        raw: The parsed file.
        **others: Sizes that the family reads in another way, or has in addition.

    Raises:
        CheckpointError: If one is missing or not a positive number, or the activation is not supported.
    """
    require_supported(raw, {"hidden_act": ("gelu", ACTIVATIONS)})
    hidden, heads = positive(raw, "hidden_size"), positive(raw, "num_attention_heads")
    if hidden % heads:
        raise CheckpointError(
            "the width of the model is no multiple of its attention heads",
            got=f"hidden_size = {hidden}, num_attention_heads = {heads}",
        )
    sizes: dict[str, Any] = {
        "vocab_size": positive(raw, "vocab_size"),
        "hidden_size": hidden,
        "intermediate_size": positive(raw, "intermediate_size"),
        "layers": positive(raw, "num_hidden_layers"),
        "heads": heads,
        "positions": positive(raw, "max_position_embeddings"),
        "eps": number(raw, "layer_norm_eps", 1e-12),
        "activation": raw.get("hidden_act") or "gelu",
    }
    return PostNormShape(**{**sizes, **others})


def read_bert(raw: Mapping[str, Any], **others: Any) -> PostNormShape:
    """Returns the sizes of BERT or RoBERTa. Arguments as for `read_shape`.

    Raises:
        CheckpointError: If the file is incomplete or asks for something that the encoder does not compute.
    """
    supported = {"position_embedding_type": ("absolute", ("absolute",)), "is_decoder": (False, (False,))}
    require_supported(raw, supported)
    return read_shape(raw, token_types=positive(raw, "type_vocab_size", 2), **others)


READ_FACTOR = 2.0
"""A norm has two gains; that for projections is larger by this factor, and their weights are divided by it.

Calibrated recipes change the gain for projections alone, and find it in the exported graph by its content.
With equal gains the exporter would merge the two products. The factor is a power of two, so that it rounds
nothing: neither weights nor results change.
"""

COUNTER, POOLER = r"embeddings\.position_ids", r"pooler\.dense\.(weight|bias)"
"""Weights that no encoder needs: a counter that old releases of transformers saved as a tensor, and the
pooler, because sentence encoders pool the tokens themselves."""

TASK_HEAD = r"(classifier|pre_classifier|qa_outputs)\..*"
"""Weights of a model that was finetuned for another task, which transformers leaves out of the encoder."""

TINY = {
    "vocab_size": 600,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
"""Changes to a released config.json with BERT's keys that make a model for tests."""


def post_norm_family(
    *,
    name: str,
    model_types: tuple[str, ...],
    parse: Callable[[Mapping[str, Any], int | None], PostNormShape],
    evidence: str,
    prefixes: tuple[str, ...],
    unused: tuple[str, ...],
    released: Released,
    tiny: Mapping[str, Any],
    names: PostNormNames | None = None,
    invented: tuple[str, ...] = (),
) -> Family:
    """Returns a family whose encoder is `PostNormEncoder`; by default every projection is calibrated in int8.

    Args:
        name: As for `Family`, and so are all other arguments except `names`.
        model_types: Its `model_type` values in config.json.
        parse: Reads config.json.
        evidence: Why the default recipe is the default.
        prefixes: What wrappers put before weight names.
        unused: Weights that the encoder does not need.
        released: The shape of a released model.
        tiny: Makes a model for tests of it.
        names: What its checkpoints call the weights of a layer.
        invented: Weights that transformers may make up.
    """

    def build(weights: Weights, shape: PostNormShape, pad_id: int) -> nn.Module:
        from edge_embed_convert.layers.post_norm import PostNormEncoder  # brings PyTorch

        return PostNormEncoder(weights, shape, pad_id, names)

    return Family(
        name=name,
        model_types=model_types,
        parse=parse,
        build=build,
        projections=POST_NORM_PROJECTIONS,
        default_recipe="int8",
        recipes={"int8": BALANCED_INT8},
        evidence=evidence,
        prefixes=prefixes,
        unused=unused,
        invented=invented,
        released=released,
        tiny=tiny,
    )


def post_norm_tensors(
    config: Mapping[str, Any], names: PostNormNames | None = None
) -> Iterator[RandomTensor]:
    """Yields the weights of a random checkpoint.

    Args:
        config: A config.json with BERT's keys. Without `type_vocab_size` there is no token type table; with
            `relative_attention_num_buckets` there is a table of relative attention biases.
        names: What the checkpoint calls the weights of a layer.
    """
    names = names or PostNormNames()
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
        if rows in config:
            yield RandomTensor(f"embeddings.{name}_embeddings.weight", (config[rows], hidden), 0.05)
    yield from norm("embeddings.LayerNorm")
    for index in range(config["num_hidden_layers"]):
        layer = f"{names.layers}.{index}"
        for name in (names.query, names.key, names.value):
            yield from dense(f"{layer}.{name}", hidden, hidden)
        yield from dense(f"{layer}.{names.output}", hidden, hidden)
        yield from norm(f"{layer}.{names.output_norm}")
        yield from dense(f"{layer}.{names.up}", inner, hidden)
        yield from dense(f"{layer}.{names.down}", hidden, inner)
        yield from norm(f"{layer}.{names.down_norm}")
    if "relative_attention_num_buckets" in config:
        shape = (config["relative_attention_num_buckets"], config["num_attention_heads"])
        yield RandomTensor(names.relative, shape, 0.5)
