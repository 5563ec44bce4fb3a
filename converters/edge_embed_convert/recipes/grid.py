"""Q4_0's grid: weights that were stored in four bits before, kept as they are by int4 per block.

llama.cpp's Q4_0 stores blocks of 32 weights as multiples of one unit, from -8 to 7 times. The unit is
negative where the largest weight of a block is positive, so the largest one is always -8 times it.
ai-edge-quantizer rounds to multiples of a seventh of the largest weight, which are other numbers: the weights
of multilingual-e5-small, which came from Q4_0, lost 0.007 in cosine by it.

Here such weights are found by their values, and their multiples are written into the finished graph. The
table may be looked up with negative scales. XNNPACK refuses them in products. So a block with a negative unit
is written as multiples of the unit's absolute value, each one less than it is, which are -8 to 7 as well. A
small projection adds what is missing: that absolute value times the sum of the inputs of the block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from edge_embed_convert.graph.weights import Projections, stored_weights
from edge_embed_convert.recipes.grammar import MIN_MAX, Recipe, Scheme
from edge_embed_convert.recipes.placement import GRID, scheme_of
from edge_embed_convert.source.weights import linear

if TYPE_CHECKING:
    from edge_embed_convert.graph.rewrite import EmbeddingModel

BLOCK, LOWEST, HIGHEST = 32, -8, 7
"""Q4_0's weights in a block, and the range of their multiples."""

TOLERANCE = 2e-3
"""How far from whole a multiple may be: scales in float16 and what the encoder folds into rows."""

SHARE = 0.99
"""The share of a weight's blocks that must lie on the grid: tables have rows that were added later."""

ROWS = 4096
"""How many rows are looked at together."""


def lies_on_grid(weight: Tensor) -> bool:
    """Returns whether the blocks of a weight ``(out, in)`` are Q4_0's."""
    if weight.shape[1] % BLOCK:
        return False
    found = blocks = 0
    for rows in torch.split(weight, ROWS):
        on_grid = _multiples(rows)[2]
        found, blocks = found + int(on_grid.sum()), blocks + on_grid.numel()
        if found < SHARE * blocks:
            return False
    return True


def _multiples(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns multiples ``(out, blocks, 32)``, their units with signs, and whether blocks are on the grid.

    A block that is not is rounded to multiples from -7 to 7 of a positive unit.
    """
    blocks = weight.reshape(weight.shape[0], -1, BLOCK)
    largest = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    unit = largest / LOWEST
    multiples = blocks / torch.where(unit == 0, 1.0, unit)
    on_grid = ((multiples - multiples.round()).abs() <= TOLERANCE).all(-1)
    on_grid &= (multiples.round() <= HIGHEST).all(-1)
    coarse = largest.abs() / HIGHEST
    unit = torch.where(on_grid[..., None], unit, coarse)
    return (blocks / torch.where(unit == 0, 1.0, unit)).round(), unit[..., 0], on_grid


class OnGrid(nn.Module):
    """A projection whose weights lie on Q4_0's grid, as the sum of two others.

    Args:
        layer: The projection.

    Attributes:
        grid: Its weights, those of blocks with a negative unit less the absolute value of the unit.
        offset: What is missing: reads the sums of the inputs' blocks.
        unit: The absolute value of each block's unit.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        weight = layer.weight.detach()
        _, unit, _ = _multiples(weight)
        self.unit = unit.abs()
        offset = torch.where(unit < 0, self.unit, 0.0)
        shifted = weight.reshape(*offset.shape, BLOCK) - offset[..., None]
        bias = None if layer.bias is None else layer.bias.detach()
        self.grid, self.offset = linear(shifted.reshape(weight.shape), bias), linear(offset)

    def forward(self, x: Tensor) -> Tensor:
        """Applies both projections to ``(..., in)`` and adds the results."""
        sums = x.reshape(*x.shape[:-1], -1, BLOCK).sum(-1)
        result: Tensor = self.grid(x) + self.offset(sums)
        return result


def keeps_grid(scheme: Scheme) -> bool:
    """Returns whether a scheme stores what lies on the grid as it is."""
    return (scheme.bits, scheme.block, scheme.algorithm) == (4, BLOCK, MIN_MAX)


def write_grids(graph: bytes, model: EmbeddingModel, recipe: Recipe, projections: Projections) -> bytes:
    """Writes the multiples of weights that are on the grid of Q4_0 into a quantized graph.

    Args:
        graph: The flatbuffer as ai-edge-quantizer gives it.
        model: The graph in PyTorch, as it was exported.
        recipe: Its recipe.
        projections: Where the projections are in the flatbuffer.
    """
    table = model.get_parameter("encoder.table").detach()
    look_up = keeps_grid(recipe.embedding) and lies_on_grid(table)
    planes = {
        f"{path}.{GRID}": module for path, module in model.named_modules() if isinstance(module, OnGrid)
    }
    planes = {path: module for path, module in planes.items() if keeps_grid(scheme_of(model, path, recipe))}
    if not look_up and not planes:
        return graph
    content = bytearray(graph)
    written: set[int] = set()
    for stored, order in zip(stored_weights(graph), projections.order, strict=True):
        products = iter(order)
        for weight in stored:
            path = None if weight.lookup else next(products)
            if weight.place[0] in written or weight.type != "INT4":
                continue
            if path in planes:
                codes, scales = _shifted(planes[path])
            elif weight.lookup and look_up:
                codes, scales = _signed(table)
            else:
                continue
            _replace(content, weight.place, codes)
            _replace(content, weight.scale_place, scales)
            written.add(weight.place[0])
    return bytes(content)


def _signed(table: Tensor) -> tuple[bytes, bytes]:
    parts = [_multiples(rows)[:2] for rows in torch.split(table, ROWS)]
    return _packed([part[0] for part in parts]), _halves(torch.cat([part[1] for part in parts]))


def _shifted(module: OnGrid) -> tuple[bytes, bytes]:
    blocks, unit = module.grid.weight.detach().reshape(*module.unit.shape, BLOCK), module.unit
    multiples = (blocks / torch.where(unit == 0, 1.0, unit)[..., None]).round().clamp(LOWEST, HIGHEST)
    return _packed([multiples]), _halves(unit)


def _packed(parts: list[Tensor]) -> bytes:
    codes = np.concatenate([part.to(torch.int8).numpy().reshape(-1) for part in parts]).view(np.uint8) & 15
    return bytes((codes[0::2] | codes[1::2] << 4).astype(np.uint8))


def _halves(unit: Tensor) -> bytes:
    return unit.to(torch.float16).numpy().tobytes()


def _replace(content: bytearray, place: tuple[int, int], data: bytes) -> None:
    start, size = place
    if size != len(data):
        raise ValueError(f"{len(data)} bytes for a place of {size}")
    content[start : start + size] = data
