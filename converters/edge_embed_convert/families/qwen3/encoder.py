"""Qwen3's encoder, written for the delegate.

The rewrites against the transformers implementation, each exact: queries and keys go through one norm and
one rotation, as two halves; the attention scale is folded into the query's gain; keys after a whole block of
queries are not computed for it (`CausalContext`); the residual stream is stored divided by `STREAM_SCALE`,
which norms do not see once epsilon is divided by its square.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_embed_convert.families.qwen3 import Qwen3Config
from edge_embed_convert.layers.causal import CausalContext
from edge_embed_convert.layers.common import RMSNorm, silu, token_mask
from edge_embed_convert.layers.rotary import RotaryLayer, RotaryNorm, rotary_tables
from edge_embed_convert.source.weights import Weights, scaled

STREAM_SCALE = 16.0
"""What the residual stream is divided by: a power of two, so that the division itself is exact. Its squares
must fit into float16, so the stream may reach 4,000; the squares of embeddings near 0.02 are still above
float16's smallest numbers."""


class Qwen3Layer(RotaryLayer):
    """One transformer layer: causal attention and a gated feed-forward, each after a norm."""

    def __init__(self, weights: Weights, config: Qwen3Config) -> None:
        super().__init__(config.heads, config.kv_heads, config.head_dim)
        hidden, inner, bias = config.hidden_size, config.intermediate_size, config.attention_bias
        attention, mlp = weights.at("self_attn"), weights.at("mlp")
        self.set_projections(*self.take_projections(attention, hidden, bias=bias))
        gains = [attention.take(f"{name}_norm.weight", self.head_dim) for name in ("q", "k")]
        gains = [gains[0].expand(self.heads, -1) * self.head_dim**-0.5, gains[1].expand(self.kv_heads, -1)]
        self.qk_norm = RotaryNorm(torch.cat(gains), config.eps)
        output = attention.take_linear("o_proj", hidden, self.heads * self.head_dim, bias=bias)
        self.output = scaled(output, 1 / STREAM_SCALE)
        self.gate, self.up = (mlp.take_linear(f"{n}_proj", inner, hidden, bias=False) for n in ("gate", "up"))
        self.down = scaled(mlp.take_linear("down_proj", hidden, inner, bias=False), 1 / STREAM_SCALE)
        self.input_norm, self.mlp_norm = (
            RMSNorm(weights.take(f"{name}_layernorm.weight", hidden), config.eps / STREAM_SCALE**2)
            for name in ("input", "post_attention")
        )

    def forward(self, x: Tensor, context: CausalContext) -> Tensor:
        x = x + self.output(self.attention(self.input_norm(x), context))
        inner = self.mlp_norm(x)
        return x + self.down(silu(self.gate(inner)) * self.up(inner))


class Qwen3(nn.Module):
    """The encoder: token ids to contextual token vectors.

    Args:
        weights: The checkpoint's tensors, named as transformers saves them.
        config: The checked configuration.
        pad_id: The id that marks padding.
    """

    def __init__(self, weights: Weights, config: Qwen3Config, pad_id: int) -> None:
        super().__init__()
        self.config, self.pad_id = config, pad_id
        table = weights.take("embed_tokens.weight", config.vocab_size, config.hidden_size)
        self.table = nn.Parameter(table / STREAM_SCALE, requires_grad=False)
        self.layers = nn.ModuleList(
            Qwen3Layer(weights.at(f"layers.{index}"), config) for index in range(config.layers)
        )
        self.norm = RMSNorm(weights.take("norm.weight", config.hidden_size), config.eps / STREAM_SCALE**2)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes ids ``(1, L)`` to vectors ``(1, L, hidden)`` and the token mask ``(1, L)``."""
        mask = token_mask(tokens, self.pad_id).to(self.table.dtype)
        config = self.config
        table = rotary_tables(mask.shape[1], config.head_dim, config.theta, 1.0, mask.dtype)
        context = CausalContext(mask, table)
        x = nn.functional.embedding(tokens, self.table)
        for layer in self.layers:
            x = layer(x, context)
        return self.norm(x), mask
