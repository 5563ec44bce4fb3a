"""What the families with rotary positions share, without PyTorch: projections, bases, and random weights.

Their layers are `layers.rotary.RotaryLayer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edge_embed.errors import CheckpointError
from edge_embed_convert.families.family import Projection, RandomTensor, number, part

SLIDING, FULL = "sliding_attention", "full_attention"
"""The kinds of layers, as config.json names them."""

ROTARY_PROJECTIONS = {
    "qk_first": Projection("attention", "inputs"),
    "qk_second": Projection("attention", "inputs"),
    "value": Projection("attention", "inputs"),
    "output": Projection("attention", "output"),
    "gate": Projection("feed_forward", "up"),
    "up": Projection("feed_forward", "up"),
    "down": Projection("feed_forward", "down"),
}
"""The linear layers of a layer with rotary positions and a gated feed-forward."""


NOT_MEASURED = "int8 lost little in every model that was measured. No real weights were at hand."
"""Why `int8` is the default recipe of a family that no checkpoint was measured of."""


def rotary_theta(
    raw: Mapping[str, Any], default: float, *, layers: str | None = None, key: str = "rope_theta"
) -> float:
    """Returns a rotary base of a config.json, old style or new.

    Args:
        raw: The parsed file.
        default: What transformers takes where the file does not say.
        layers: The kind of layers, where the file has an entry for each: `SLIDING` or `FULL`.
        key: What the old style calls the base.

    Raises:
        CheckpointError: If the file asks for another kind of rotary embedding than the plain one.
    """
    parameters = part(raw, "rope_parameters")
    values = {
        **(parameters if layers is None else part(parameters, layers)),
        **part(raw, "rope_scaling"),
    }
    kind = values.get("rope_type", values.get("type", "default"))
    if kind != "default" or values.get("partial_rotary_factor", 1.0) != 1.0:
        raise CheckpointError(
            "unsupported rotary embedding",
            got=f"rope_type = {kind!r}, partial_rotary_factor = {values.get('partial_rotary_factor', 1.0)}",
            expected="'default', applied to whole heads",
        )
    return first_number(default, (values, "rope_theta"), (raw, key))


def first_number(default: float, *places: tuple[Mapping[str, Any], str]) -> float:
    """Returns the first number that is there, of parts of config.json and their keys.

    Raises:
        CheckpointError: If what is there is no positive number.
    """
    for place, key in places:
        if place.get(key) is not None:
            return number(place, key, default)
    return default


def sliding_layers(raw: Mapping[str, Any], layers: int, every: int, full_at: int) -> tuple[bool, ...]:
    """Returns which layers see a window only: by `layer_types`, or all but each so many.

    Args:
        raw: The parsed config.json.
        layers: How many layers there are.
        every: Without `layer_types`, one layer of so many sees everything.
        full_at: The first layer that does.

    Raises:
        CheckpointError: If `layer_types` does not fit.
    """
    kinds = raw.get("layer_types")
    if kinds is None:
        return tuple((index - full_at) % every != 0 for index in range(layers))
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise CheckpointError(
            "layer_types in config.json is malformed", got=repr(kinds)[:80], expected="a list of names"
        )
    if len(kinds) != layers or not set(kinds) <= {SLIDING, FULL}:
        raise CheckpointError(
            "layer_types does not describe this model's layers",
            got=f"{len(kinds)} entries of {sorted(set(kinds))}",
            expected=f"{layers} entries of {FULL} or {SLIDING}",
        )
    return tuple(kind == SLIDING for kind in kinds)


def head_size(hidden: int, heads: int) -> int:
    """Returns the size of a head.

    Raises:
        CheckpointError: If the heads are of no even size, which the rotation needs.
    """
    if hidden % heads or hidden // heads % 2:
        raise CheckpointError(
            "hidden_size does not divide into heads of even size",
            got=f"hidden_size = {hidden}, num_attention_heads = {heads}",
        )
    return hidden // heads


def attention_tensors(
    layer: str, hidden: int, query: int, key: int, deviation: float = 0.02
) -> Iterator[RandomTensor]:
    """Yields random projections of a layer's attention, named as in decoders of transformers.

    Args:
        layer: The prefix of the layer.
        hidden: Length of a token's vector.
        query: Size of all heads of the queries.
        key: Size of all heads of the keys, and of the values.
        deviation: Of the weights.
    """
    shapes = {"q": (query, hidden), "k": (key, hidden), "v": (key, hidden), "o": (hidden, query)}
    for name, shape in shapes.items():
        yield RandomTensor(f"{layer}.self_attn.{name}_proj.weight", shape, deviation)


def gated_tensors(layer: str, hidden: int, inner: int, deviation: float = 0.02) -> Iterator[RandomTensor]:
    """Yields random projections of a layer's gated feed-forward, named as in decoders of transformers.

    Args:
        layer: The prefix of the layer.
        hidden: Length of a token's vector.
        inner: Length of a token's vector inside the feed-forward.
        deviation: Of the weights.
    """
    for name, shape in {"gate": (inner, hidden), "up": (inner, hidden), "down": (hidden, inner)}.items():
        yield RandomTensor(f"{layer}.mlp.{name}_proj.weight", shape, deviation)
