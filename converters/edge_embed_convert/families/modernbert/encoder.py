"""ModernBERT's encoder, written for the delegate.

The rewrites against the transformers implementation, each exact: the one projection to queries, keys and
values is cut into three, because cutting its output would copy it; queries and keys come as two halves,
which the rotary embedding turns against each other; the attention scale is folded into the query's rows;
the projection to both parts of the gated feed-forward is cut into two.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_embed_convert.families.modernbert import ModernBertConfig
from edge_embed_convert.layers.common import LayerNorm, attend, token_mask
from edge_embed_convert.layers.rotary import half_of, rotary_tables, rotated
from edge_embed_convert.layers.windowed import WindowedContext
from edge_embed_convert.source.weights import Weights, linear, scaled


class ModernBertLayer(nn.Module):
    """One transformer layer: attention and gated feed-forward, each after a norm."""

    def __init__(self, weights: Weights, config: ModernBertConfig, index: int) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.sliding, self.heads, self.head_dim = config.sliding[index], config.heads, hidden // config.heads
        attention, mlp = weights.at("attn"), weights.at("mlp")
        joined = attention.take_linear("Wqkv", 3 * hidden, hidden, bias=config.attention_bias)
        query, key, self.value = (_rows(joined, part, hidden) for part in range(3))
        query = scaled(query, self.head_dim**-0.5)
        self.qk_first, self.qk_second = (half_of((query, key), half, self.head_dim) for half in (0, 1))
        self.output = attention.take_linear("Wo", hidden, hidden, bias=config.attention_bias)
        both = mlp.take_linear("Wi", 2 * inner, hidden, bias=config.mlp_bias)
        self.gate, self.up = (_rows(both, part, inner) for part in range(2))
        self.down = mlp.take_linear("Wo", hidden, inner, bias=config.mlp_bias)
        self.input_norm = _norm(weights.at("attn_norm"), config) if index else nn.Identity()
        self.mlp_norm = _norm(weights.at("mlp_norm"), config)

    def forward(self, x: Tensor, context: WindowedContext) -> Tensor:
        x = x + self.output(self._attention(self.input_norm(x), context))
        inner = self.mlp_norm(x)
        return x + self.down(nn.functional.gelu(self.gate(inner)) * self.up(inner))

    def _attention(self, x: Tensor, context: WindowedContext) -> Tensor:
        length = x.shape[1]
        shape = (1, length, 2 * self.heads, self.head_dim // 2)
        first, second = self.qk_first(x).reshape(shape), self.qk_second(x).reshape(shape)
        qk = rotated(first, second, context.tables[self.sliding])
        query, key = torch.split(qk, [self.heads, self.heads], dim=2)
        value = self.value(x).reshape(1, length, self.heads, self.head_dim)
        if self.sliding and context.blocks:
            return context.attend_in_window(query, key, value)
        return attend(query, key, value, context.window if self.sliding else context.padding)


class ModernBert(nn.Module):
    """The encoder: token ids to contextual token vectors.

    Args:
        weights: The checkpoint's tensors, named as transformers saves them.
        config: The checked configuration.
        pad_id: The id that marks padding.
    """

    def __init__(self, weights: Weights, config: ModernBertConfig, pad_id: int) -> None:
        super().__init__()
        self.config, self.pad_id = config, pad_id
        table = weights.take("embeddings.tok_embeddings.weight", config.vocab_size, config.hidden_size)
        self.table = nn.Parameter(table, requires_grad=False)
        self.norm = _norm(weights.at("embeddings.norm"), config)
        self.layers = nn.ModuleList(
            ModernBertLayer(weights.at(f"layers.{index}"), config, index)
            for index in range(len(config.sliding))
        )
        self.final_norm = _norm(weights.at("final_norm"), config)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes ids ``(1, L)`` to vectors ``(1, L, hidden_size)`` and the token mask ``(1, L)``."""
        mask = token_mask(tokens, self.pad_id).to(self.table.dtype)
        config, dim = self.config, self.config.hidden_size // self.config.heads
        tables = {
            sliding: rotary_tables(mask.shape[1], dim, config.theta[sliding], 1.0, mask.dtype)
            for sliding in set(config.sliding)
        }
        context = WindowedContext(mask, tables, config.window_radius if any(config.sliding) else None)
        x = self.norm(nn.functional.embedding(tokens, self.table))
        for layer in self.layers:
            x = layer(x, context)
        return self.final_norm(x), mask


def _rows(layer: nn.Linear, part: int, size: int) -> nn.Linear:
    """Returns the projection to one of several parts of an output that follow each other."""
    rows = slice(part * size, (part + 1) * size)
    return linear(layer.weight[rows].clone(), None if layer.bias is None else layer.bias[rows].clone())


def _norm(weights: Weights, config: ModernBertConfig) -> LayerNorm:
    bias = weights.take("bias", config.hidden_size) if config.norm_bias else None
    return LayerNorm(weights.take("weight", config.hidden_size), bias, config.eps)
