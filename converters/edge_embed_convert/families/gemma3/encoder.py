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

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edge_embed_convert.families.gemma3 import Gemma3Config
from edge_embed_convert.families.gemma3.scales import BRANCH_SCALE, RESIDUAL_SCALE
from edge_embed_convert.layers.common import MASKED, RMSNorm, attend, bmm_4d, padding_bias, token_mask
from edge_embed_convert.layers.rotary import RotaryNorm, rotary_tables
from edge_embed_convert.source.weights import Weights, linear, scaled

LOCAL_FROM = 4
"""From how many window radii on a sliding layer computes by blocks. Measured at 512, 1024 and 2048 tokens
(radius 256): below four radii the copies cost what the saved products gain."""


class Gemma3Layer(nn.Module):
    """One transformer layer: attention and gated feed-forward, each between two norms."""

    def __init__(self, weights: Weights, config: Gemma3Config, index: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.sliding = config.sliding[index]
        hidden, inner, bias = config.hidden_size, config.intermediate_size, config.attention_bias
        attention, mlp = weights.at("self_attn"), weights.at("mlp")
        query, key = (
            attention.take_linear(f"{name}_proj", count * self.head_dim, hidden, bias=bias)
            for name, count in (("q", self.heads), ("k", self.kv_heads))
        )
        self.qk_first, self.qk_second = (self._half((query, key), index) for index in (0, 1))
        self.value = attention.take_linear("v_proj", self.kv_heads * self.head_dim, hidden, bias=bias)
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

    def _half(self, projections: Sequence[nn.Linear], index: int) -> nn.Linear:
        """Returns one projection to the first or the second halves of all heads."""

        def rows(tensors: Sequence[Tensor]) -> Tensor:
            stacked = torch.cat(list(tensors))
            halves = stacked.reshape(-1, 2, self.head_dim // 2, *stacked.shape[1:])
            return halves[:, index].flatten(0, 1)

        biases = [layer.bias for layer in projections if layer.bias is not None]
        return linear(rows([layer.weight for layer in projections]), rows(biases) if biases else None)

    def forward(self, x: Tensor, context: AttentionContext) -> Tensor:
        x = x + self.post_attention_norm(self.output(self._attention(self.input_norm(x), context)))
        inner = self.pre_mlp_norm(x)
        gated = nn.functional.gelu(self.gate(inner), approximate="tanh") * self.up(inner)
        return x + self.post_mlp_norm(self.down(gated))

    def _attention(self, x: Tensor, context: AttentionContext) -> Tensor:
        length = x.shape[1]
        shape = (1, length, self.heads + self.kv_heads, self.head_dim // 2)
        first, second = self.qk_first(x).reshape(shape), self.qk_second(x).reshape(shape)
        qk = self.qk_norm(first, second, context.tables[self.sliding])
        query, key = torch.split(qk, [self.heads, self.kv_heads], dim=2)
        value = self.value(x).reshape(1, length, self.kv_heads, self.head_dim)
        if self.sliding and context.blocks:
            return context.attend_in_window(query, key, value)
        return attend(query, key, value, context.window if self.sliding else context.padding)


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


class AttentionContext:
    """What all layers share for one input: rotary tables, additive biases, and the cut into blocks.

    Args:
        config: The encoder's configuration.
        mask: The token mask, ``(1, L)``.
    """

    def __init__(self, config: Gemma3Config, mask: Tensor) -> None:
        length, dtype = mask.shape[1], mask.dtype
        self._radius = config.window_radius
        rotary = {
            True: (config.rope_theta_local, 1.0),
            False: (config.rope_theta_global, config.rope_factor_global),
        }
        self.tables = {
            sliding: rotary_tables(length, config.head_dim, theta, factor, dtype)
            for sliding, (theta, factor) in rotary.items()
        }
        self.padding = padding_bias(mask)
        self.window = self.padding
        self.blocks = 0
        if not any(config.sliding) or length <= self._radius + 1:
            return
        if length < LOCAL_FROM * self._radius:
            self.window = self.padding + window_bias(length, length, 0, self._radius).to(dtype)
        else:
            self.blocks = -(-length // self._radius)
            self.window = self._block_bias(mask)

    def attend_in_window(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attends block by block: one radius of queries against the three radii of keys they can see.

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
