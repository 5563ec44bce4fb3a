"""Attention within a window: what all layers share for one input, and attention by blocks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edge_embed_convert.layers.common import MASKED, attend, bmm_4d, padding_bias

LOCAL_FROM = 4
"""From how many window radii on a sliding layer computes by blocks. Measured at 512, 1024 and 2048 tokens
(radius 256): below four radii the copies cost what the saved products gain."""


class WindowedContext:
    """What all layers share for one input: rotary tables, additive biases, and the cut into blocks.

    Args:
        mask: The token mask, ``(1, L)``.
        tables: Cosine and sine by whether a layer is sliding.
        radius: The greatest distance that a sliding layer sees; None without sliding layers.

    Attributes:
        tables: As given.
        padding: The bias of layers that see everything.
        window: The bias of sliding layers.
        blocks: Into how many blocks sliding layers cut the input; 0 if they do not.
    """

    def __init__(
        self, mask: Tensor, tables: Mapping[bool, tuple[Tensor, Tensor]], radius: int | None
    ) -> None:
        length, dtype = mask.shape[1], mask.dtype
        self.tables = tables
        self._radius = radius or length
        self.padding = padding_bias(mask)
        self.window = self.padding
        self.blocks = 0
        if radius is None or length <= radius + 1:
            return
        if length < LOCAL_FROM * radius:
            self.window = self.padding + window_bias(length, length, 0, radius).to(dtype)
        else:
            self.blocks = -(-length // radius)
            self.window = self._block_bias(mask)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, sliding: bool) -> Tensor:
        """Computes the attention of a layer, as `layers.common.attend` does, with or without the window."""
        if sliding and self.blocks:
            return self.attend_in_window(query, key, value)
        return attend(query, key, value, self.window if sliding else self.padding)

    def attend_in_window(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attends block by block: the queries of one radius see the keys of three radii.

        Args:
            query: ``(1, L, H, d)``.
            key: ``(1, L, K, d)``.
            value: ``(1, L, K, d)``.

        Returns:
            ``(1, L, H * d)``.
        """
        _, length, heads, dim = query.shape
        whole = self.blocks * self._radius
        query = nn.functional.pad(query, (0, 0, 0, 0, 0, whole - length)) if whole > length else query
        query = query.reshape(self.blocks, self._radius, heads, dim)
        out = attend(query, self._neighbours(key), self._neighbours(value), self.window)
        return out.reshape(1, whole, heads * dim)[:, :length]

    def _neighbours(self, x: Tensor) -> Tensor:
        """Returns every block between its neighbours: ``(1, L, K, d)`` to ``(blocks, 3r, K, d)``."""
        _, length, groups, dim = x.shape
        radius, whole = self._radius, self.blocks * self._radius
        x = nn.functional.pad(x, (0, 0, 0, 0, radius, radius + whole - length))
        shifted = [x[:, i * radius : i * radius + whole] for i in range(3)]
        return torch.cat([part.reshape(self.blocks, radius, groups, dim) for part in shifted], dim=1)

    def _block_bias(self, mask: Tensor) -> Tensor:
        """Returns padding and window for every block: ``(blocks, r, 1, 3r)``."""
        radius, length = self._radius, mask.shape[1]
        # In four dimensions, because GPUs pad no fewer.
        wide = nn.functional.pad(mask[:, None, None], (radius, radius + self.blocks * radius - length))
        padded = padding_bias(wide.reshape(1, -1))
        shifted = [padded[..., i * radius : (i + self.blocks) * radius] for i in range(3)]
        near = torch.cat([part.reshape(1, self.blocks, radius, 1) for part in shifted], dim=2)
        # The delegate adds tensors that broadcast one way only; a product with ones brings the rows. They
        # are computed, no bias being above 0, because GPUs take no constant as the left factor.
        ones = shifted[1].reshape(1, self.blocks, radius, 1).clamp(min=1.0)
        rows = bmm_4d(ones, near).reshape(self.blocks, radius, 1, 3 * radius)
        return rows + window_bias(radius, 3 * radius, radius, radius).to(mask.dtype)


def window_bias(queries: int, keys: int, offset: int, radius: int) -> Tensor:
    """Returns the bias ``(1, queries, 1, keys)`` that hides keys more than `radius` away.

    Args:
        queries: Number of queries.
        keys: Number of keys.
        offset: The key index at which query 0 stands.
        radius: The greatest distance that is seen.
    """
    # Arithmetic on floats, because the converter folds it into a constant; a comparison it leaves behind.
    query = torch.arange(offset, offset + queries, dtype=torch.float32)[:, None]
    key = torch.arange(keys, dtype=torch.float32)[None, :]
    beyond = ((query - key).abs() - radius).clamp(min=0.0, max=1.0)
    return beyond[None, :, None] * MASKED
