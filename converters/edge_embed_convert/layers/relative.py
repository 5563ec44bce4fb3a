"""Attention biases that depend on the distance between two tokens, as T5 and MPNet have them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from edge_embed_convert.layers.common import bmm_4d

MAX_DISTANCE = 128
"""Distances from here on share the last bucket (T5, arXiv 1910.10683)."""


def relative_buckets(distances: Tensor, count: int) -> Tensor:
    """Returns the bucket of each distance, key position less query position.

    One half of the buckets is for keys before the query and one for keys after it. In each half, one half of
    the buckets holds one distance each, and the others grow logarithmically up to `MAX_DISTANCE` (T5).

    Args:
        distances: Integers.
        count: How many buckets there are.
    """
    half = count // 2
    exact = half // 2
    away = distances.abs()
    # Float32 and in this order, as transformers computes it: rounding decides at the borders.
    wide = torch.log(away.float() / exact) / math.log(MAX_DISTANCE / exact) * (half - exact)
    wide = (exact + wide.to(torch.int64)).clamp(max=half - 1)
    return torch.where(away < exact, away, wide) + half * (distances > 0).to(torch.int64)


class RelativeBias(nn.Module):
    """The bias of every head for every pair of positions.

    A file keeps one number for each head and distance, instead of one for each head and pair in every bucket:
    the pairs are made from them while running, once for all layers. Every row holds the same numbers; read
    with a stride that is one less than the length of a row, each row starts one distance earlier.

    Args:
        table: One row for each bucket and one column for each head.
        longest: The longest input in tokens.
    """

    def __init__(self, table: Tensor, longest: int) -> None:
        super().__init__()
        distances = torch.arange(-longest, longest) + 1
        row = table[relative_buckets(distances, table.shape[0])].T[None, :, :, None]
        self.row = nn.Parameter(row.contiguous(), requires_grad=False)
        self._longest = longest

    def forward(self, mask: Tensor) -> Tensor:
        """Returns the bias ``(1, heads, L, L)`` for a token mask ``(1, L)``."""
        length, heads = mask.shape[1], self.row.shape[1]
        row = self.row[:, :, self._longest - length : self._longest + length]
        # No mask value is above 1, so these are ones; GPUs take no constant as the left factor.
        ones = mask.reshape(1, 1, length, 1).clamp(min=1.0)
        ones = bmm_4d(ones, torch.ones(1, 1, heads, 1, dtype=mask.dtype)).reshape(1, heads, length, 1)
        rows = bmm_4d(ones, row).reshape(1, 1, heads, 2 * length * length)
        shifted = rows[..., : length * (2 * length - 1)].reshape(1, heads, length, 2 * length - 1)
        return shifted[..., length - 1 :]
