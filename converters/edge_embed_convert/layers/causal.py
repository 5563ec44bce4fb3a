"""Causal attention: a query sees the keys up to its own place."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edge_embed_convert.layers.common import MASKED, attend

BLOCK, MOST_BLOCKS = 512, 4
"""Queries of a block, and how many blocks there are at most: the delegate joins no more than five tensors.
Keys after a block's end are not computed for it; with four blocks that saves three eighths of the work."""


class CausalContext:
    """What all layers share for one input: rotary tables, and the bias that hides later keys.

    No bias hides padding: it follows the text, so no token of the text sees it.

    Args:
        mask: The token mask, ``(1, L)``.
        table: Cosine and sine.

    Attributes:
        tables: Cosine and sine by whether a layer is sliding, which none is.
    """

    def __init__(self, mask: Tensor, table: tuple[Tensor, Tensor]) -> None:
        length = mask.shape[1]
        self.tables: Mapping[bool, tuple[Tensor, Tensor]] = {False: table}
        block = max(BLOCK, -(-length // MOST_BLOCKS))
        self._starts = range(0, length, block)
        self._ends = [min(start + block, length) for start in self._starts]
        self._biases = [_bias(mask, start, end) for start, end in zip(self._starts, self._ends, strict=True)]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, sliding: bool) -> Tensor:
        """Computes the attention of a layer, as `layers.common.attend` does, block by block."""
        blocks = zip(self._starts, self._ends, self._biases, strict=True)
        parts = [attend(query[:, a:b], key[:, :b], value[:, :b], bias) for a, b, bias in blocks]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _bias(mask: Tensor, start: int, end: int) -> Tensor:
    """Returns the bias of queries from `start` to `end` over the keys up to `end`: ``(1, q, 1, end)``."""
    queries = end - start
    # Arithmetic on floats, because the converter folds it into a constant; a comparison it leaves behind.
    place = torch.arange(queries, dtype=torch.float32)
    later = (place[None, :] - place[:, None]).clamp(min=0.0, max=1.0)
    bias = (later[None, :, None] * MASKED).to(mask.dtype)
    if not start:
        return bias
    # Padded while running: only the square is stored, once for all blocks and lengths. No mask value is above
    # 1, so the factor is 1; without it the converter would store the whole.
    ones = mask[:, start:end].reshape(1, queries, 1, 1).clamp(min=1.0)
    return nn.functional.pad(bias * ones, (start, 0))
