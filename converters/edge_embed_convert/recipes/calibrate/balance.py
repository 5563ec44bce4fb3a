"""Balance: scales the channels that projections read to similar sizes before they are rounded together.

While the model runs, the inputs of an integer projection are rounded to int8 row by row, and the largest
channel sets the step for all. After a norm some channels are ten times as large as others, so the small
ones lose most of their precision. In all-MiniLM-L6-v2 this was more than half of int8's error. So each
channel is multiplied by a constant, and the column of weights that reads it is divided by the same constant
(SmoothQuant, arXiv 2211.10438). The constants become part of the gain of a split norm
(`layers.common.SplitNorm`), so the graph has the same operators as before. They are computed from
calibration texts.

This rescales columns of weights, which moves weights off a grid that they were trained for. So only the
scheme `8.gptq` does it, because that scheme finds a new grid. At 4 bits it gained nothing: there almost all
of the error comes from rounding the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edge_embed_convert.graph.rewrite import EmbeddingModel
from edge_embed_convert.recipes.grammar import CALIBRATED, Recipe, Scheme
from edge_embed_convert.recipes.placement import scheme_of

BALANCED = Scheme(8, algorithm=CALIBRATED)
"""The scheme whose inputs are balanced."""

MIGRATION = 0.65
"""How much of the differences between channels moves from inputs to weights; 1 is all. Mean loss of cosine
of all-MiniLM-L6-v2 on texts that nothing was fitted to, simulated, inputs rounded alone and with weights:
7.3e-4 and 9.1e-4 without balance, 3.1e-4 and 4.9e-4 at 0.5, 2.5e-4 and 4.7e-4 at 0.65, 2.1e-4 and 6.1e-4
at 1."""

LEAST = 1e-3
"""Channels smaller than this share of the mean are treated as if they had that size."""


def gain_readers(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Returns the paths of the projections that read each split norm, by the path of its gain for them.

    A gain of equal numbers, as in a model that was never trained, is left out: it is not a vector in the
    exported graph, where another could take its place.
    """
    encoder: Any = getattr(model, "encoder", None)
    found: Mapping[str, tuple[str, ...]] = getattr(encoder, "gain_readers", {})
    return {
        f"encoder.{gain}": tuple(f"encoder.{path}" for path in readers)
        for gain, readers in found.items()
        if bool((model.get_parameter(f"encoder.{gain}") != 1).any())
    }


def constants(model: nn.Module, moments: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns what the inputs of projections are to be multiplied with, by the projections' paths.

    Args:
        model: The graph in float32.
        moments: Second moments of what its projections are fed; a norm whose readers lack them is left out.
    """
    found: dict[str, Tensor] = {}
    for readers in gain_readers(model).values():
        if all(path in moments for path in readers):
            weights = torch.cat([model.get_parameter(f"{path}.weight").detach() for path in readers])
            found |= dict.fromkeys(readers, _constants(moments[readers[0]].diagonal().sqrt(), weights))
    return found


def _constants(sizes: Tensor, weights: Tensor) -> Tensor:
    """Returns one constant per channel, 1 in their geometric mean."""
    largest = weights.abs().amax(0)
    if not bool(sizes.any()) or not bool(largest.any()):
        return torch.ones_like(sizes)
    sizes, largest = (x.clamp(min=LEAST * float(x.mean())).log() for x in (sizes, largest))
    wanted = (1 - MIGRATION) * largest - MIGRATION * sizes
    return (wanted - wanted.mean()).exp()


def balanced_gains(model: EmbeddingModel, recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """Returns the `gain_readers` that a recipe balances: of norms that only `BALANCED` projections read."""
    return {
        gain: readers
        for gain, readers in gain_readers(model).items()
        if all(scheme_of(model, path, recipe) == BALANCED for path in readers)
    }
