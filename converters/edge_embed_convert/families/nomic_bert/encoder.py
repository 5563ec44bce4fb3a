"""NomicBERT's encoder, written for the delegate.

The rewrites against the transformers implementation, each exact: queries and keys come as two halves, which
the rotary embedding turns against each other; the attention scale is folded into the query's rows; of the
token types only the first is kept, which a single text has.
"""

from __future__ import annotations

from torch import Tensor, nn

from edge_embed_convert.families.nomic_bert import NomicBertConfig
from edge_embed_convert.layers.common import LayerNorm, silu, token_mask
from edge_embed_convert.layers.rotary import RotaryLayer, rotary_tables
from edge_embed_convert.layers.windowed import WindowedContext
from edge_embed_convert.source.weights import Weights, linear, scaled

CURRENT = {
    "attention": "self_attn",
    "output": "o_proj",
    "gate": "gate_proj",
    "up": "up_proj",
    "down": "down_proj",
    "output_norm": "post_attention_layernorm",
    "down_norm": "post_mlp_layernorm",
}
"""What transformers calls the weights of a layer."""

RELEASED = {
    "attention": "attn",
    "output": "out_proj",
    "gate": "fc12",
    "up": "fc11",
    "down": "fc2",
    "output_norm": "norm1",
    "down_norm": "norm2",
}
"""What the released code calls them."""


class NomicBertLayer(RotaryLayer):
    """One transformer layer: attention and gated feed-forward, each followed by a norm.

    Args:
        weights: The layer's tensors, named as transformers does, or as the released code does.
        config: The checked configuration.
    """

    def __init__(self, weights: Weights, config: NomicBertConfig) -> None:
        super().__init__(config.heads, config.heads, config.head_dim)
        hidden, inner, width = config.hidden_size, config.intermediate_size, config.heads * config.head_dim
        released = weights.has("norm1.weight")
        names = RELEASED if released else CURRENT
        attention, mlp = weights.at(names["attention"]), weights.at("mlp")
        if released:
            joined = attention.take("Wqkv.weight", 3 * width, hidden)
            query, key, value = (linear(part.clone()) for part in joined.chunk(3))
        else:
            query, key, value = self.take_projections(attention, hidden)
        self.set_projections(scaled(query, self.head_dim**-0.5), key, value)
        self.output = attention.take_linear(names["output"], hidden, width, bias=False)
        self.gate = mlp.take_linear(names["gate"], inner, hidden, bias=False)
        self.up = mlp.take_linear(names["up"], inner, hidden, bias=False)
        self.down = mlp.take_linear(names["down"], hidden, inner, bias=False)
        self.output_norm = _norm(weights.at(names["output_norm"]), config)
        self.down_norm = _norm(weights.at(names["down_norm"]), config)
        self.activation = config.activation

    def forward(self, x: Tensor, context: WindowedContext) -> Tensor:
        x = self.output_norm(x + self.output(self.attention(x, context)))
        activated = silu(self.gate(x)) if self.activation == "silu" else nn.functional.gelu(self.gate(x))
        return self.down_norm(x + self.down(activated * self.up(x)))


class NomicBert(nn.Module):
    """The encoder: token ids to contextual token vectors.

    Args:
        weights: The checkpoint's tensors, named as transformers does, or as the released code does.
        config: The checked configuration.
        pad_id: The id that marks padding.
    """

    def __init__(self, weights: Weights, config: NomicBertConfig, pad_id: int) -> None:
        super().__init__()
        self.config, self.pad_id = config, pad_id
        released = weights.has("emb_ln.weight")
        hidden, embeddings = config.hidden_size, weights.at("embeddings")
        table = embeddings.take("word_embeddings.weight", config.vocab_size, hidden)
        types = embeddings.take("token_type_embeddings.weight", config.token_types, hidden)
        self.table = nn.Parameter(table, requires_grad=False)
        # Not added into the table, whose rows may lie on a quantization grid.
        self.token_type = nn.Parameter(types[0].clone(), requires_grad=False)
        self.norm = _norm(weights.at("emb_ln" if released else "embeddings.LayerNorm"), config)
        layers = "encoder.layers" if released else "layers"
        self.layers = nn.ModuleList(
            NomicBertLayer(weights.at(f"{layers}.{index}"), config) for index in range(config.layers)
        )

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes ids ``(1, L)`` to vectors ``(1, L, hidden)`` and the token mask ``(1, L)``."""
        mask = token_mask(tokens, self.pad_id).to(self.table.dtype)
        config = self.config
        table = rotary_tables(mask.shape[1], config.head_dim, config.theta, 1.0, mask.dtype)
        context = WindowedContext(mask, {False: table}, None)
        x = self.norm(nn.functional.embedding(tokens, self.table) + self.token_type)
        for layer in self.layers:
            x = layer(x, context)
        return x, mask


def _norm(weights: Weights, config: NomicBertConfig) -> LayerNorm:
    size = config.hidden_size
    return LayerNorm(weights.take("weight", size), weights.take("bias", size), config.eps)
