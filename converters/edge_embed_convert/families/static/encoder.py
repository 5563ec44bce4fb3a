"""A static model's table, from which the delegate makes the mean."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_embed.errors import CheckpointError
from edge_embed_convert.families.static import StaticConfig
from edge_embed_convert.layers.common import token_mask
from edge_embed_convert.source.static import MAPPING, ROWS, TABLE, WEIGHTS
from edge_embed_convert.source.weights import Weights


class Static(nn.Module):
    """The encoder: token ids to their vectors, which no other token changes.

    Args:
        weights: The checkpoint's tensors, of either layout.
        config: The sizes.
        pad_id: The id that marks padding.

    Raises:
        CheckpointError: If tokens are mapped to rows that the table does not have.
    """

    def __init__(self, weights: Weights, config: StaticConfig, pad_id: int) -> None:
        super().__init__()
        self.config, self.pad_id = config, pad_id
        tokens = config.vocab_size - 1
        table = weights.take(TABLE if weights.has(TABLE) else ROWS, config.rows, config.hidden_size)
        if config.mapped:
            rows = weights.take(MAPPING, tokens).long()
            if not bool(((rows >= 0) & (rows < config.rows)).all()):
                raise CheckpointError(
                    "a token is mapped to a row that the table does not have",
                    got=f"rows {int(rows.min())} to {int(rows.max())}",
                    expected=f"0 to {config.rows - 1}",
                    fix="check that mapping and embeddings belong to one checkpoint",
                )
            table = table[rows]
        if config.weighted:
            table = table * weights.take(WEIGHTS, tokens)[:, None]
        # The row that pads; nothing reads it.
        self.table = nn.Parameter(torch.cat([table, table[:1]]), requires_grad=False)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes ids ``(1, L)`` to vectors ``(1, L, hidden_size)`` and the token mask ``(1, L)``."""
        mask = token_mask(tokens, self.pad_id).to(self.table.dtype)
        return nn.functional.embedding(tokens, self.table), mask
