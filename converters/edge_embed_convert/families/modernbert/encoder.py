"""ModernBERT's encoder, written for the delegate.

The rewrites against the transformers implementation, each exact: the one projection to queries, keys and
values is cut into three, because cutting its output would copy it; queries and keys come as two halves,
which the rotary embedding turns against each other; the attention scale is folded into the query's rows;
the projection to both parts of the gated feed-forward is cut into two.
"""

from __future__ import annotations

from torch import Tensor, nn

from edge_embed_convert.families.modernbert import ModernBertConfig
from edge_embed_convert.layers.common import LayerNorm, token_mask
from edge_embed_convert.layers.rotary import RotaryLayer, rotary_tables
from edge_embed_convert.layers.windowed import WindowedContext
from edge_embed_convert.source.weights import Weights, linear, scaled


class ModernBertLayer(RotaryLayer):
    """One transformer layer: attention and gated feed-forward, each after a norm."""

    def __init__(self, weights: Weights, config: ModernBertConfig, index: int) -> None:
        hidden, inner = config.hidden_size, config.intermediate_size
        head_dim = hidden // config.heads
        super().__init__(config.heads, config.heads, head_dim, sliding=config.sliding[index])
        attention, mlp = weights.at("attn"), weights.at("mlp")
        joined = attention.take_linear("Wqkv", 3 * hidden, hidden, bias=config.attention_bias)
        query, key, value = (_rows(joined, part, hidden) for part in range(3))
        self.set_projections(scaled(query, self.head_dim**-0.5), key, value)
        self.output = attention.take_linear("Wo", hidden, hidden, bias=config.attention_bias)
        both = mlp.take_linear("Wi", 2 * inner, hidden, bias=config.mlp_bias)
        self.gate, self.up = (_rows(both, part, inner) for part in range(2))
        self.down = mlp.take_linear("Wo", hidden, inner, bias=config.mlp_bias)
        self.input_norm = _norm(weights.at("attn_norm"), config) if index else nn.Identity()
        self.mlp_norm = _norm(weights.at("mlp_norm"), config)

    def forward(self, x: Tensor, context: WindowedContext) -> Tensor:
        x = x + self.output(self.attention(self.input_norm(x), context))
        inner = self.mlp_norm(x)
        return x + self.down(nn.functional.gelu(self.gate(inner)) * self.up(inner))


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
