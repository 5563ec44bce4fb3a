"""Leave an encoder's layers out of the computation, and put them back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from edge_embed.errors import InputError


@contextmanager
def skipped_layers(model: Any) -> Iterator[None]:
    """Makes the encoder's layers return their input inside the `with` block.

    A token table trained this way is a good start for the layers: it costs a small part of the time.
    Names and weights stay as they are, so that a checkpoint taken in the middle is an ordinary one.

    Args:
        model: A sentence-transformers model of Gemma's shape.

    Raises:
        InputError: If its layers cannot be found.
    """
    encoder = model[0].model
    layers = getattr(encoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise InputError(
            "the layers of this model cannot be skipped",
            got=type(encoder).__name__,
            expected='a model of the shape that a stage of kind "student" makes',
        )
    trainable = [parameter for parameter in layers.parameters() if parameter.requires_grad]
    classes = [type(layer) for layer in layers]
    for layer in layers:
        layer.__class__ = _Skipped
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for layer, plain in zip(layers, classes, strict=True):
            layer.__class__ = plain
        for parameter in trainable:
            parameter.requires_grad_(True)


class _Skipped(nn.Module):
    """A layer that changes nothing."""

    def forward(self, hidden_states: Tensor, *arguments: Any, **options: Any) -> Tensor:
        """Returns its input."""
        return hidden_states
