"""What follows the encoder: pooling, Dense projections, normalization, as the checkpoint orders them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edge_embed_convert.source.checkpoint import Dense
from edge_embed_convert.source.weights import Weights

FAR = 1e4
"""Pushes padding below any real activation before a maximum; fits into float16."""

TINY = 1e-24
"""Keeps an all-zero vector finite; far below float32's rounding of a unit vector's square norm."""


class Pooling(nn.Module):
    """Turns token vectors into one vector, by one or several modes concatenated.

    Args:
        modes: Of `POOLING_MODES`, in the order sentence-transformers concatenates them.
    """

    def __init__(self, modes: Sequence[str]) -> None:
        super().__init__()
        self.modes = tuple(modes)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Pools ``(1, L, D)`` under the token mask ``(1, L)`` to ``(1, D * modes)``."""
        column = mask[..., None]
        pooled = [getattr(self, f"_{mode}")(x, column) for mode in self.modes]
        return pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=-1)

    def _cls(self, x: Tensor, mask: Tensor) -> Tensor:
        return x[:, 0]

    def _max(self, x: Tensor, mask: Tensor) -> Tensor:
        return (x * mask - (1.0 - mask) * FAR).amax(1)

    def _mean(self, x: Tensor, mask: Tensor) -> Tensor:
        # Divided before the sum, which in float16 would leave its range on long texts.
        return (x * (mask / mask.sum(1, keepdim=True).clamp(min=1.0))).sum(1)

    def _mean_sqrt_len_tokens(self, x: Tensor, mask: Tensor) -> Tensor:
        return (x * (mask * torch.rsqrt(mask.sum(1, keepdim=True).clamp(min=1.0)))).sum(1)


class Head(nn.Module):
    """Pooling, then the checkpoint's Dense modules, then L2 normalization where it has one.

    Args:
        modes: The pooling modes.
        dense: The Dense modules in order.
        weights: Their tensors, in the same order.
        normalize: Whether the checkpoint normalizes.
    """

    def __init__(
        self, modes: Sequence[str], dense: Sequence[Dense], weights: Sequence[Weights], *, normalize: bool
    ) -> None:
        super().__init__()
        self.pooling, self.normalize = Pooling(modes), normalize
        self.activations = [layer.activation for layer in dense]
        self.dense = nn.ModuleList(
            tensors.take_linear("linear", layer.out_features, layer.in_features, bias=layer.bias)
            for layer, tensors in zip(dense, weights, strict=True)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Returns the embedding ``(1, dimension)``."""
        vector = self.pooling(x, mask)
        for layer, activation in zip(self.dense, self.activations, strict=True):
            vector = layer(vector)
            if activation == "tanh":
                vector = torch.tanh(vector)
        if not self.normalize:
            return vector
        # With rsqrt it stays elementwise; x / sqrt(sum) becomes an L2_NORMALIZATION that GPUs refuse.
        return vector * torch.rsqrt((vector * vector).sum(-1, keepdim=True) + TINY)
