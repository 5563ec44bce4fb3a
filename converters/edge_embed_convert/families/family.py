"""What a family of encoders is: everything that the package knows about one.

A family is a folder below `families` that exports `FAMILY`. Its `__init__` reads the configuration and needs
no PyTorch; the graph lies beside it in `encoder.py` and is imported when a model is built.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from edge_embed.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn

    from edge_embed_convert.source.weights import Weights


class EncoderConfig(Protocol):
    """What the pipeline asks of every family's configuration."""

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding table."""

    @property
    def hidden_size(self) -> int:
        """Length of a token's vector after the last layer."""

    @property
    def max_positions(self) -> int:
        """The longest input in tokens, special tokens included."""


@dataclass(frozen=True)
class Projection:
    """A kind of linear layer in a family's encoder.

    Attributes:
        group: Its group in the recipe grammar: `attention` or `feed_forward`.
        part: What a search calls it together with the layer's other projections of the same part. Projections
            that read the same tensor belong to one part.
    """

    group: str
    part: str


@dataclass(frozen=True)
class RandomTensor:
    """A weight of a random checkpoint: normally distributed with this deviation around this mean."""

    name: str
    shape: tuple[int, ...]
    deviation: float = 0.02
    mean: float = 0.0


@dataclass(frozen=True)
class Released:
    """The shape of a released model, from which random checkpoints are made.

    Attributes:
        name: The released model.
        config: Its config.json.
        tensors: Gives the encoder's weights for a config.json of the family.
        tokenizer: The kind of its tokenizer: `wordpiece`, or `gemma` for a BPE with byte fallback.
        pooling: How its tokens become one vector.
        dense: Widths of the Dense modules after pooling, as multiples of the hidden size.
        prompts: Prompts of the released model by name.
        width_key: The entry of config.json that states the length of a token's vector.
        extra_positions: How many rows of the position table no token uses (RoBERTa: 2).
    """

    name: str
    config: Mapping[str, Any]
    tensors: Callable[[Mapping[str, Any]], Iterator[RandomTensor]]
    tokenizer: str
    pooling: str = "mean"
    dense: tuple[float, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    width_key: str = "hidden_size"
    extra_positions: int = 0


def _leave(config: Any, sliding_window: int | None) -> None:
    """Changes nothing."""


@dataclass(frozen=True)
class Family:
    """One family of encoders.

    Attributes:
        name: What the manifest and the messages call it.
        model_types: The `model_type` values of config.json that it covers.
        parse: Reads config.json; the second argument overrides its sliding window, in the file's units.
        build: Makes the encoder from the weights, the configuration and the pad id. The encoder maps ids
            ``(1, L)`` to vectors ``(1, L, hidden_size)`` and a token mask ``(1, L)``; its `table` is the
            embedding table and its `layers` hold the projections.
        projections: The encoder's linear layers by their attribute names.
        default_recipe: The recipe if the user names none.
        evidence: Why that is the default: what was measured, or the mechanism.
        released: The shape of a released model.
        tiny: Changes to the released config.json that make a model for tests. Tests expect 600 tokens.
        recipes: Known recipe names that stand for another spelling in this family.
        prefixes: Prefixes that wrappers put before every weight name.
        unused: Patterns of weights that checkpoints carry and the encoder does not need.
        invented: Prefixes of weights that transformers may make up for the reference; they change no vector.
        adapt_reference: Changes the reference's configuration in transformers; gets the user's window.
        needs_dense: The Dense modules that every released checkpoint of the family has; empty if none.
        matryoshka: Dimensions that released models of the family are trained to be cut to.
        default_max_tokens: The longest input if the user names none and the model takes longer ones.
        without_transformers: Whether sentence-transformers runs it by itself: there is no config.json of
            transformers, and nothing is put around a text.
    """

    name: str
    model_types: tuple[str, ...]
    parse: Callable[[Mapping[str, Any], int | None], EncoderConfig]
    build: Callable[[Weights, Any, int], nn.Module]
    projections: Mapping[str, Projection]
    default_recipe: str
    evidence: str
    released: Released
    tiny: Mapping[str, Any]
    recipes: Mapping[str, str] = field(default_factory=dict)
    prefixes: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    invented: tuple[str, ...] = ()
    adapt_reference: Callable[[Any, int | None], None] = _leave
    needs_dense: tuple[str, ...] = ()
    matryoshka: tuple[int, ...] = ()
    default_max_tokens: int | None = None
    without_transformers: bool = False


def positive(raw: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """Returns a positive integer of config.json.

    Args:
        raw: The parsed file.
        key: Its name.
        default: What transformers takes where the file does not say.

    Raises:
        CheckpointError: If it is missing without a default, or is something else.
    """
    value = raw.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(
            f"config.json lacks a usable {key}", got=repr(value), expected="a positive integer"
        )
    return value


def natural(raw: Mapping[str, Any], key: str, default: int) -> int:
    """Returns an integer of config.json that may be 0; see `positive`."""
    value = raw.get(key, default)
    return 0 if value == 0 and type(value) is int else positive(raw, key, default)


def number(raw: Mapping[str, Any], key: str, default: float) -> float:
    """Returns a positive number of config.json.

    Args:
        raw: The parsed file, or a part of it.
        key: Its name.
        default: What transformers takes where the file does not say.

    Raises:
        CheckpointError: If it is something else.
    """
    value = raw.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise CheckpointError(
            f"config.json lacks a usable {key}", got=repr(value)[:80], expected="a positive number"
        )
    return float(value)


def part(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Returns an object within config.json, empty where there is none.

    Raises:
        CheckpointError: If it is something else.
    """
    value = raw.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise CheckpointError(
            f"{key} in config.json is malformed", got=repr(value)[:80], expected="an object"
        )
    return value or {}


def require_supported(raw: Mapping[str, Any], supported: Mapping[str, tuple[Any, tuple[Any, ...]]]) -> None:
    """Refuses entries of config.json that need something the encoder does not compute.

    Args:
        raw: The parsed file.
        supported: By key: the value that transformers takes if the file has none, and the values that are
            supported. An entry of null counts as missing.

    Raises:
        CheckpointError: If an entry has another value; the message names it.
    """
    for key, (default, values) in supported.items():
        value = default if raw.get(key) is None else raw[key]
        if value not in values:
            raise CheckpointError(
                f"this variant of {raw.get('model_type')} is not supported: {key}",
                got=repr(value),
                expected=" or ".join(repr(v) for v in values),
            )
