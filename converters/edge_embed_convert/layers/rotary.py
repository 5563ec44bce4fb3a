"""Rotary position embedding, fused with the norm before it, over heads that are split into halves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edge_embed_convert.source.weights import linear


class RotaryNorm(nn.Module):
    """RMSNorm, then the rotary embedding.

    Args:
        gain: ``(heads, head_dim)``.
        eps: Added to the mean square.
    """

    def __init__(self, gain: Tensor, eps: float) -> None:
        super().__init__()
        # The two halves' means add up to twice the mean of all: hence the factors of two, here and below.
        first, second = (gain * 2**0.5).chunk(2, dim=-1)
        self.gain_first = nn.Parameter(first.clone(), requires_grad=False)
        self.gain_second = nn.Parameter(second.clone(), requires_grad=False)
        self.eps = eps

    def forward(self, first: Tensor, second: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
        """Joins the halves ``(1, L, heads, head_dim / 2)`` to whole heads, normalized and rotated."""
        means = [(half * half).mean(-1, keepdim=True) for half in (first, second)]
        scale = torch.rsqrt(means[0] + (means[1] + 2 * self.eps))
        first, second = first * self.gain_first, second * self.gain_second
        # Scaled last: one product for both halves, which the rotation does not change.
        return rotated(first, second, table) * scale


def rotated(first: Tensor, second: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Joins the halves ``(1, L, heads, head_dim / 2)`` to whole heads, rotated."""
    cos, sin = table
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def half_of(projections: Sequence[nn.Linear], index: int, head_dim: int) -> nn.Linear:
    """Returns one projection to the first or the second halves of all heads of some projections.

    Args:
        projections: Each to whole heads.
        index: 0 for the first halves, 1 for the second.
        head_dim: Size of a head.
    """

    def rows(tensors: Sequence[Tensor]) -> Tensor:
        stacked = torch.cat(list(tensors))
        halves = stacked.reshape(-1, 2, head_dim // 2, *stacked.shape[1:])
        return halves[:, index].flatten(0, 1)

    biases = [layer.bias for layer in projections if layer.bias is not None]
    return linear(rows([layer.weight for layer in projections]), rows(biases) if biases else None)


def rotary_tables(
    length: int, dim: int, theta: float, factor: float, dtype: torch.dtype, share: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Returns cosine and sine of every position's angles, each ``(1, L, 1, dim / 2)``.

    Args:
        length: Number of positions.
        dim: Size of a head.
        theta: The base of the frequencies.
        factor: Positions are divided by it.
        dtype: Of the tables.
        share: The share of each head that is rotated, from its beginning; the other part is unchanged.
    """
    # Float32 throughout, as transformers computes them: at position 2000 the rounding shows otherwise.
    frequency = 1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    if share < 1.0:
        frequency = torch.where(torch.arange(dim // 2) < int(share * dim // 2), frequency, 0.0)
    angle = torch.arange(length, dtype=torch.float32)[:, None] * (frequency / factor)
    return angle.cos().to(dtype)[None, :, None], angle.sin().to(dtype)[None, :, None]
