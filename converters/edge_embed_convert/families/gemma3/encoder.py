"""EmbeddingGemma's encoder, written for the delegate.

The rewrites against the transformers implementation, each exact:

- Queries and keys are normalized and rotated together, as heads of one tensor; the attention scale
  is folded into the query gain.
- The rotary embedding turns half of each head against the other half (Su et al., arXiv 2104.09864). The
  halves come from two projections, rows sorted, so that nothing has to be cut; each angle is held once.
- Gate and up stay two projections. Cutting the output of one copies it: with the halves above and the
  heads of attention left where they are, 8 to 14 % at 64 to 512 tokens.
- The residual stream is stored divided by `RESIDUAL_SCALE`. Every read of it is through an RMSNorm,
  which does not see a constant factor once epsilon is divided by its square. The stream's outliers
  (above 65504, why float16 is forbidden for the original) then fit into float16.
- Sliding-window layers on long inputs compute only the blocks of keys that a block of queries sees.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_embed_convert.families.gemma3 import Gemma3Config
from edge_embed_convert.families.gemma3.scales import BRANCH_SCALE, RESIDUAL_SCALE
from edge_embed_convert.layers.common import RMSNorm, token_mask
from edge_embed_convert.layers.rotary import RotaryLayer, RotaryNorm, rotary_tables
from edge_embed_convert.layers.windowed import WindowedContext
from edge_embed_convert.source.weights import Weights, scaled


class Gemma3Layer(RotaryLayer):
    """One transformer layer: attention and gated feed-forward, each between two norms."""

    def __init__(self, weights: Weights, config: Gemma3Config, index: int) -> None:
        super().__init__(config.heads, config.kv_heads, config.head_dim, sliding=config.sliding[index])
        hidden, inner, bias = config.hidden_size, config.intermediate_size, config.attention_bias
        attention, mlp = weights.at("self_attn"), weights.at("mlp")
        self.set_projections(*self.take_projections(attention, hidden, bias=bias))
        self.qk_norm = RotaryNorm(self._qk_gain(attention, config.attention_scale), config.eps)
        self.output = scaled(
            attention.take_linear("o_proj", hidden, self.heads * self.head_dim, bias=bias), 1 / BRANCH_SCALE
        )
        self.gate, self.up = (mlp.take_linear(f"{n}_proj", inner, hidden, bias=False) for n in ("gate", "up"))
        self.down = scaled(mlp.take_linear("down_proj", hidden, inner, bias=False), 1 / BRANCH_SCALE)

        read_eps = config.eps / RESIDUAL_SCALE**2
        branch_eps = config.eps / BRANCH_SCALE**2
        self.input_norm = RMSNorm(1 + weights.take("input_layernorm.weight", hidden), read_eps)
        self.post_attention_norm = RMSNorm(
            (1 + weights.take("post_attention_layernorm.weight", hidden)) / RESIDUAL_SCALE, branch_eps
        )
        self.pre_mlp_norm = RMSNorm(1 + weights.take("pre_feedforward_layernorm.weight", hidden), read_eps)
        self.post_mlp_norm = RMSNorm(
            (1 + weights.take("post_feedforward_layernorm.weight", hidden)) / RESIDUAL_SCALE, branch_eps
        )

    def _qk_gain(self, attention: Weights, scale: float) -> Tensor:
        query = (1 + attention.take("q_norm.weight", self.head_dim)) * scale
        key = 1 + attention.take("k_norm.weight", self.head_dim)
        return torch.cat([query.expand(self.heads, -1), key.expand(self.kv_heads, -1)])

    def forward(self, x: Tensor, context: AttentionContext) -> Tensor:
        x = x + self.post_attention_norm(self.output(self.attention(self.input_norm(x), context)))
        inner = self.pre_mlp_norm(x)
        gated = nn.functional.gelu(self.gate(inner), approximate="tanh") * self.up(inner)
        return x + self.post_mlp_norm(self.down(gated))


class Gemma3(nn.Module):
    """The encoder: token ids to contextual token vectors.

    Args:
        weights: The checkpoint's tensors, named as transformers saves them.
        config: The checked configuration.
        pad_id: The id that marks padding.
    """

    def __init__(self, weights: Weights, config: Gemma3Config, pad_id: int) -> None:
        super().__init__()
        self.config, self.pad_id = config, pad_id
        table = weights.take("embed_tokens.weight", config.vocab_size, config.hidden_size)
        self.table = nn.Parameter(table * (config.hidden_size**0.5 / RESIDUAL_SCALE), requires_grad=False)
        self.layers = nn.ModuleList(
            Gemma3Layer(weights.at(f"layers.{index}"), config, index) for index in range(config.layers)
        )
        self.norm = RMSNorm(
            1 + weights.take("norm.weight", config.hidden_size), config.eps / RESIDUAL_SCALE**2
        )

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes ids ``(1, L)`` to vectors ``(1, L, hidden)`` and the token mask ``(1, L)``."""
        mask = token_mask(tokens, self.pad_id).to(self.table.dtype)
        context = AttentionContext(self.config, mask)
        x = nn.functional.embedding(tokens, self.table)
        for layer in self.layers:
            x = layer(x, context)
        return self.norm(x), mask


class AttentionContext(WindowedContext):
    """What all layers share for one input.

    Args:
        config: The encoder's configuration.
        mask: The token mask, ``(1, L)``.
    """

    def __init__(self, config: Gemma3Config, mask: Tensor) -> None:
        length, dtype = mask.shape[1], mask.dtype
        rotary = {
            True: (config.rope_theta_local, 1.0),
            False: (config.rope_theta_global, config.rope_factor_global),
        }
        tables = {
            sliding: rotary_tables(length, config.head_dim, theta, factor, dtype)
            for sliding, (theta, factor) in rotary.items()
        }
        super().__init__(mask, tables, config.window_radius if any(config.sliding) else None)
