"""Rotary position embedding, fused with the norm ahead of it, over heads that come as two halves."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
        cos, sin = table
        # Scaled last: one product for both halves, and the rotation does not mind.
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1) * scale


def rotary_tables(
    length: int, dim: int, theta: float, factor: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Returns cosine and sine of every position's angles, each ``(1, L, 1, dim / 2)``.

    Args:
        length: Number of positions.
        dim: Size of a head.
        theta: The base of the frequencies.
        factor: What positions are divided by.
        dtype: Of the tables.
    """
    # Float32 throughout, as transformers computes them: at position 2000 the rounding shows otherwise.
    frequency = 1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    angle = torch.arange(length, dtype=torch.float32)[:, None] * (frequency / factor)
    return angle.cos().to(dtype)[None, :, None], angle.sin().to(dtype)[None, :, None]
