"""Rotary position embedding over heads that are split into halves, and layers whose attention has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from edge_embed_convert.source.weights import Weights, linear


class Attending(Protocol):
    """What layers share for one input: rotary tables, and which keys a query sees."""

    @property
    def tables(self) -> Mapping[bool, tuple[Tensor, Tensor]]:
        """Cosine and sine by whether a layer is sliding."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, sliding: bool) -> Tensor:
        """Computes attention: heads ``(1, L, H, d)`` over ``(1, L, K, d)`` twice, to ``(1, L, H * d)``."""


class RotaryLayer(nn.Module):
    """A transformer layer with rotary positions: its projections to heads, and its attention.

    Queries and keys are projected as two halves of all heads, with sorted rows. The rotation combines the
    halves, so nothing has to be cut. Recipes name a projection by its attribute.

    Args:
        heads: How many heads queries have.
        kv_heads: How many heads keys and values have.
        head_dim: Size of a head.
        sliding: Whether the layer sees only a window.
    """

    def __init__(self, heads: int, kv_heads: int, head_dim: int, *, sliding: bool = False) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim, self.sliding = heads, kv_heads, head_dim, sliding
        self.qk_norm: RotaryNorm | None = None

    def take_projections(
        self, weights: Weights, width: int, *, bias: bool = False
    ) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """Takes the projections to queries, keys and values, named as decoders of transformers do.

        Args:
            weights: The tensors of the layer's attention.
            width: Length of a token's vector.
            bias: Whether they have biases.
        """
        query, key, value = (
            weights.take_linear(f"{name}_proj", count * self.head_dim, width, bias=bias)
            for name, count in (("q", self.heads), ("k", self.kv_heads), ("v", self.kv_heads))
        )
        return query, key, value

    def set_projections(self, query: nn.Linear, key: nn.Linear, value: nn.Linear) -> None:
        """Sets the projections to queries, keys and values. The query's rows include the score's scale."""
        self.qk_first, self.qk_second = (half_of((query, key), half, self.head_dim) for half in (0, 1))
        self.value = value

    def attention(self, x: Tensor, context: Attending) -> Tensor:
        """Returns what attention gives, before the output projection: ``(1, L, heads * head_dim)``."""
        length, table = x.shape[1], context.tables[self.sliding]
        shape = (1, length, self.heads + self.kv_heads, self.head_dim // 2)
        first, second = self.qk_first(x).reshape(shape), self.qk_second(x).reshape(shape)
        qk = rotated(first, second, table) if self.qk_norm is None else self.qk_norm(first, second, table)
        query, key = torch.split(qk, [self.heads, self.kv_heads], dim=2)
        value = self.values(self.value(x).reshape(1, length, self.kv_heads, self.head_dim))
        return context.attend(query, key, value, self.sliding)

    def values(self, value: Tensor) -> Tensor:
        """Changes the values ``(1, L, kv_heads, head_dim)`` on their way to attention; here not at all."""
        return value


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
        dtype: The type of the tables.
        share: The share of each head that is rotated, from its beginning; the other part is unchanged.
    """
    # Float32 throughout, as transformers computes them: at position 2000 the rounding shows otherwise.
    frequency = 1.0 / theta ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    if share < 1.0:
        frequency = torch.where(torch.arange(dim // 2) < int(share * dim // 2), frequency, 0.0)
    angle = torch.arange(length, dtype=torch.float32)[:, None] * (frequency / factor)
    return angle.cos().to(dtype)[None, :, None], angle.sin().to(dtype)[None, :, None]
