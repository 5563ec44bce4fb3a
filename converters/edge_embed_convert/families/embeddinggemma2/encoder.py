"""EmbeddingGemma 2's encoder, written for the delegate.

The rewrites against the transformers implementation, each exact up to rounding:

- Queries and keys go through one norm and one rotation, as two halves, as in EmbeddingGemma.
- The residual stream is stored divided by `STREAM_SCALE`, as in EmbeddingGemma. Norms do not see a constant
  factor once epsilon is divided by its square. The gate of the mixing block reads the stream without a
  norm, so its weights are multiplied by the same power of two.
- The projection that mixes token embeddings into every layer is cut into one for each layer, because
  cutting its output would copy it. Its constant factor goes into the epsilon of the norm after it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_embed_convert.families.embeddinggemma2 import EmbeddingGemma2Config
from edge_embed_convert.layers.common import RMSNorm, token_mask
from edge_embed_convert.layers.rotary import RotaryLayer, RotaryNorm, rotary_tables
from edge_embed_convert.layers.windowed import WindowedContext
from edge_embed_convert.source.weights import Weights, linear, scaled

STREAM_SCALE = 1024.0
"""What the residual stream is divided by: a power of two, so that the division itself is exact. Its squares
must fit into float16, so the stream may reach 255 times as much: 262,000."""

BRANCH_SCALE = 16.0
"""What the outputs of attention, feed-forward and mixing are divided by before their norm, so that the
squares of outliers stay within float16."""


class EmbeddingGemma2Layer(RotaryLayer):
    """One transformer layer: attention, gated feed-forward, and the mixing of the token embeddings."""

    def __init__(
        self, weights: Weights, config: EmbeddingGemma2Config, index: int, mix_input: Tensor, mix_gain: Tensor
    ) -> None:
        shape = config.attention[index]
        super().__init__(config.heads, shape.kv_heads, shape.head_dim, sliding=shape.sliding)
        stream, inner, mixed = config.stream_size, config.intermediate_size, config.mixed_size
        attention, mlp, mix = weights.at("self_attn"), weights.at("mlp"), weights.at("ple_block")
        self.set_projections(*self.take_projections(attention, stream, bias=config.attention_bias))
        gains = [attention.take(f"{name}_norm.weight", self.head_dim) for name in ("q", "k")]
        gain = torch.cat([gains[0].expand(self.heads, -1), gains[1].expand(self.kv_heads, -1)])
        self.qk_norm = RotaryNorm(gain, config.eps)
        self.eps = config.eps
        self.output = _branch(
            attention.take_linear("o_proj", stream, self.heads * self.head_dim, bias=config.attention_bias)
        )
        self.gate, self.up = (mlp.take_linear(f"{n}_proj", inner, stream, bias=False) for n in ("gate", "up"))
        self.down = _branch(mlp.take_linear("down_proj", stream, inner, bias=False))
        self.mix_input = linear(mix_input)
        self.mix_norm = RMSNorm(mix_gain, config.eps * stream)
        self.mix_gate = scaled(
            mix.take_linear("per_layer_input_gate", mixed, stream, bias=False), STREAM_SCALE
        )
        self.mix_output = _branch(mix.take_linear("per_layer_projection", stream, mixed, bias=False))
        read_eps, branch_eps = config.eps / STREAM_SCALE**2, config.eps / BRANCH_SCALE**2

        def branch_norm(name: str, place: Weights) -> RMSNorm:
            return RMSNorm(place.take(f"{name}.weight", stream) / STREAM_SCALE, branch_eps)

        self.input_norm = RMSNorm(weights.take("input_layernorm.weight", stream), read_eps)
        self.post_attention_norm = branch_norm("post_attention_layernorm", weights)
        self.pre_mlp_norm = RMSNorm(weights.take("pre_feedforward_layernorm.weight", stream), read_eps)
        self.post_mlp_norm = branch_norm("post_feedforward_layernorm", weights)
        self.post_mix_norm = branch_norm("post_per_layer_input_norm", mix)
        self.scale = float(weights.take("layer_scalar", 1))

    def forward(self, x: Tensor, embedded: Tensor, context: WindowedContext) -> Tensor:
        x = x + self.post_attention_norm(self.output(self.attention(self.input_norm(x), context)))
        inner = self.pre_mlp_norm(x)
        gated = nn.functional.gelu(self.gate(inner), approximate="tanh") * self.up(inner)
        x = x + self.post_mlp_norm(self.down(gated))
        mixed = self.mix_norm(self.mix_input(embedded))
        gated = nn.functional.gelu(self.mix_gate(x), approximate="tanh") * mixed
        x = x + self.post_mix_norm(self.mix_output(gated))
        return x if self.scale == 1.0 else x * self.scale

    def values(self, value: Tensor) -> Tensor:
        """Divides the values of each head by their root mean square."""
        return value * torch.rsqrt((value * value).mean(-1, keepdim=True) + self.eps)


class EmbeddingGemma2(nn.Module):
    """The encoder: token ids to contextual token vectors.

    Args:
        weights: The checkpoint's tensors, named as transformers saves them.
        config: The checked configuration.
        pad_id: The id that marks padding.
    """

    def __init__(self, weights: Weights, config: EmbeddingGemma2Config, pad_id: int) -> None:
        super().__init__()
        self.config, self.pad_id = config, pad_id
        stream, mixed, layers = config.stream_size, config.mixed_size, len(config.attention)
        table = weights.take("embed_tokens.weight", config.vocab_size, stream)
        self.table = nn.Parameter(table * (stream**0.5 / STREAM_SCALE), requires_grad=False)
        # The stored embeddings are divided by STREAM_SCALE; multiplied back here, which is exact.
        inputs = weights.take("ple.per_layer_model_projection.weight", layers * mixed, stream) * STREAM_SCALE
        gain = weights.take("ple.per_layer_projection_norm.weight", mixed)
        self.layers = nn.ModuleList(
            EmbeddingGemma2Layer(
                weights.at(f"layers.{index}"),
                config,
                index,
                inputs[index * mixed : (index + 1) * mixed].clone(),
                gain,
            )
            for index in range(layers)
        )
        self.norm = RMSNorm(weights.take("norm.weight", stream), config.eps / STREAM_SCALE**2)
        # Recipes call it as they call the first Dense module, whose work it does.
        self.dense = nn.ModuleList(
            [weights.take_linear("embedding_projection", config.hidden_size, stream, bias=False)]
        )

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes ids ``(1, L)`` to vectors ``(1, L, hidden_size)`` and the token mask ``(1, L)``."""
        mask = token_mask(tokens, self.pad_id).to(self.table.dtype)
        context = self._context(mask)
        x = embedded = nn.functional.embedding(tokens, self.table)
        for layer in self.layers:
            x = layer(x, embedded, context)
        return self.dense[0](self.norm(x)), mask

    def _context(self, mask: Tensor) -> WindowedContext:
        tables = {}
        for sliding in {layer.sliding for layer in self.config.attention}:
            head = next(layer.head_dim for layer in self.config.attention if layer.sliding == sliding)
            rotary = self.config.rotary[sliding]
            tables[sliding] = rotary_tables(
                mask.shape[1], head, rotary.theta, rotary.factor, mask.dtype, rotary.share
            )
        sliding = any(layer.sliding for layer in self.config.attention)
        return WindowedContext(mask, tables, self.config.window_radius if sliding else None)


def _branch(layer: nn.Linear) -> nn.Linear:
    return scaled(layer, 1 / BRANCH_SCALE)
