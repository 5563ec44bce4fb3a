"""Rewrites for scales per block: a projection as the sum of two others.

For int8 per block these are two int4 planes; for int4 per block of weights on a grid see grid.py.

XNNPACK has no kernel for int8 weights with a scale per block (LiteRT refuses such a graph), but it has
one for int4. So the weights are split into their int4 rounding and the difference to it. Both planes are
quantized to int4 with a scale per block, and the step of the finer plane is about a fourteenth of the
coarser one's. Together they hold about seven and a half bits a weight, in two products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from edge_embed.errors import RecipeError
from edge_embed_convert.recipes.grammar import Recipe
from edge_embed_convert.recipes.grid import OnGrid, keeps_grid, lies_on_grid
from edge_embed_convert.recipes.placement import scheme_of
from edge_embed_convert.source.weights import linear

if TYPE_CHECKING:
    from edge_embed_convert.graph.rewrite import EmbeddingModel

LARGEST = 7
"""The largest int4 value that ai-edge-quantizer uses: its scale is absmax / 7, symmetric."""


class TwoPlanes(nn.Module):
    """A projection whose weights are the sum of two others.

    Args:
        layer: The projection to split.
        block: Weights per scale along each row.
    """

    def __init__(self, layer: nn.Linear, block: int) -> None:
        super().__init__()
        weight = layer.weight.detach()
        coarse = round_to_int4(weight, block)
        self.coarse = linear(coarse, None if layer.bias is None else layer.bias.detach())
        self.fine = linear(weight - coarse)

    def forward(self, x: Tensor) -> Tensor:
        """Applies both planes to ``(..., in)`` and adds the results."""
        result: Tensor = self.coarse(x) + self.fine(x)
        return result


def split_planes(model: EmbeddingModel, recipe: Recipe, *, keep_grids: bool = True) -> None:
    """Replaces, in place, every projection that the recipe stores as the sum of two others.

    These are those in int8 per block, and those in int4 per block whose weights lie on Q4_0's grid.

    Args:
        model: The graph.
        recipe: What is to be stored.
        keep_grids: Whether weights on Q4_0's grid stay on it. Not those that were trained with the rounding
            that ai-edge-quantizer does.

    Raises:
        RecipeError: If the rows of a projection are not a whole number of blocks.
    """
    for path, module in list(model.named_modules()):
        for name, child in list(module.named_children()):
            if not isinstance(child, nn.Linear):
                continue
            scheme = scheme_of(model, f"{path}.{name}", recipe)
            if keep_grids and keeps_grid(scheme) and lies_on_grid(child.weight.detach()):
                setattr(module, name, OnGrid(child))
                continue
            if scheme.bits != 8 or not scheme.block:
                continue
            if child.in_features % scheme.block:
                raise RecipeError(
                    f"{recipe.name} does not fit {path}.{name}",
                    got=f"rows of {child.in_features} weights",
                    expected=f"a multiple of {scheme.block}",
                    fix="use a per-channel recipe such as int8",
                )
            setattr(module, name, TwoPlanes(child, scheme.block))


def round_to_int4(weight: Tensor, block: int) -> Tensor:
    """Returns the weights ``(out, in)`` rounded to int4 with one float16 scale per block of a row."""
    blocks = weight.reshape(weight.shape[0], -1, block)
    scale = (blocks.abs().amax(-1, keepdim=True) / LARGEST).to(torch.float16).to(torch.float32)
    steps = (blocks / scale.clamp(min=torch.finfo(torch.float16).tiny)).round().clamp(-LARGEST, LARGEST)
    return (steps * scale).reshape(weight.shape)
