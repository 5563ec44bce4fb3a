"""Building blocks that the encoders share, written so that the XNNPACK delegate runs all of them.

Two rules hold for all of them. Nothing but the tokens is known only at run time, so every shape is static.
And every rewrite keeps the quantization grid of each weight row: rows are stacked (fused projections) or
scaled by one constant (the embedding table), but never rescaled column by column. So a checkpoint that was
trained with quantization in the loop stays on its grid. Only a calibrated scheme rescales columns (see
calibrate/balance.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edge_embed_convert.silence import silenced

with silenced():  # importing it logs, from Python and from C++
    from litert_torch.generative.custom_ops.bmm_4d import bmm_4d

    from edge_embed_convert.layers.products import bmm_rows

__all__ = [
    "MASKED",
    "LayerNorm",
    "RMSNorm",
    "SplitNorm",
    "attend",
    "bmm_4d",
    "padding_bias",
    "silu",
    "token_mask",
]

MASKED = -2e4
"""Additive score of a key that must not be seen.

Finite, and two of them (padding plus window) still fit into float16, so that a row which sees only
padding stays finite on every backend. exp(-2e4) is exactly zero in float32.
"""


EXACT_IN_FLOAT16 = 2048
"""Up to here float16 holds every whole number."""

BLOCK = 128
"""Tokens of a block where a row is longer than that."""


class RMSNorm(nn.Module):
    """Root-mean-square normalization with a plain gain: ``x / rms(x) * gain``.

    Args:
        gain: Per-channel factor, broadcastable to the last dimensions of the input. Gemma stores
            ``w`` of ``1 + w``; pass the sum.
        eps: Added to the mean square, in the units of the input as it is stored here.
    """

    def __init__(self, gain: Tensor, eps: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(gain, requires_grad=False)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.eps) * self.gain


class LayerNorm(nn.Module):
    """Layer normalization in single operations, so that it does not depend on what the converter fuses."""

    def __init__(self, weight: Tensor, bias: Tensor | None, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        scaled = _standardized(x, self.eps) * self.weight
        return scaled if self.bias is None else scaled + self.bias


class SplitNorm(nn.Module):
    """Layer normalization with two gains and no bias: one result stays, the other is read by projections.

    So the channels that projections read can be scaled, and their weights divided by the same constants,
    while the residual stream stays as it was. The second gain replaces the bias, so the number of
    operations is equal.

    Args:
        gain: The gain of the residual stream.
        read: The gain of what projections read.
        eps: Added to the variance.
    """

    def __init__(self, gain: Tensor, read: Tensor, eps: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(gain, requires_grad=False)
        self.read = nn.Parameter(read, requires_grad=False)
        self.eps = eps

    @classmethod
    def of(cls, norm: LayerNorm, readers: Sequence[nn.Linear], branch: nn.Linear, factor: float) -> SplitNorm:
        """Splits a norm; its bias moves into the biases of the projections.

        Args:
            norm: The norm.
            readers: Projections that read it.
            branch: The projection whose result is added to it, at the branch's end.
            factor: The readers' input is multiplied by it, and their weights are divided by it.
                Not if all gains are equal: the converter would fold that one number into the weights.
        """
        if norm.bias is None:
            raise ValueError("a norm without a bias cannot be split")
        gain = norm.weight.detach()
        read, share = gain * factor, 1 / factor
        if bool((gain == gain[0]).all()):
            read, share = torch.ones_like(gain), float(gain[0])
        for layer in readers:
            # In double precision: the order of a sum depends on where a tensor lies in memory.
            moved = layer.weight.double() @ norm.bias.double()
            layer.bias = _constant((layer.bias.double() + moved).float())
            layer.weight = _constant(layer.weight * share)
        branch.bias = _constant(branch.bias + norm.bias)
        return cls(gain, read, norm.eps)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = _standardized(x, self.eps)
        return x * self.gain, x * self.read


def _constant(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach(), requires_grad=False)


def _standardized(x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(-1, keepdim=True) + eps)


def token_mask(tokens: Tensor, pad_id: int) -> Tensor:
    """Returns 1.0 for text and 0.0 for padding, shape ``(1, L)``, from the ids alone.

    Padding is what follows the last other token. A padding token ahead of it is one that the text spells,
    and sentence-transformers lets the model see it.

    Written as arithmetic on a cast because comparisons and selects are not delegated. Ids are whole
    numbers below 2^24, so ``min(|id - pad|, 1)`` is exact.
    """
    ids = tokens.to(torch.float32)
    distance = ids if pad_id == 0 else (ids - float(pad_id)).abs()
    return _up_to_last(distance.clamp(max=1.0))


def _up_to_last(marks: Tensor) -> Tensor:
    """Returns 1.0 up to the last 1.0 of a row of zeros and ones, and 0.0 after it."""
    length = marks.shape[-1]
    if length <= EXACT_IN_FLOAT16:
        places = torch.arange(1, length + 1, dtype=torch.float32)[None]
        return _step((marks * places).amax(-1, keepdim=True) - places + 1.0)
    # Longer rows by blocks: no number passes what float16 holds exactly, so that GPUs may compute in it.
    block = torch.tensor([[index // BLOCK + 1.0 for index in range(length)]])
    place = torch.tensor([[index % BLOCK + 1.0 for index in range(length)]])
    last_block = (marks * block).amax(-1, keepdim=True)
    before = _step(last_block - block)
    inside = _step(last_block - block + 1.0) - before
    last_place = (marks * inside * place).amax(-1, keepdim=True)
    return before + inside * _step(last_place - place + 1.0)


def _step(x: Tensor) -> Tensor:
    """Returns 0 below 1 and 1 from there on, for whole numbers: a clamp to 0 and 1 is not delegated."""
    return torch.relu(x) - torch.relu(x - 1.0)


def silu(x: Tensor) -> Tensor:
    """Returns ``x * sigmoid(x)``, in two operations that the delegate has."""
    return x * torch.sigmoid(x)


def padding_bias(mask: Tensor) -> Tensor:
    """Returns the additive attention bias of padded keys, shape ``(1, 1, 1, L)``."""
    return ((1.0 - mask) * MASKED)[:, None, None, :]


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Computes softmax attention without leaving the delegate.

    Both products go through batched matrix products of four dimensions: ``torch.matmul`` with a transposed
    operand is folded by the converter into a FULLY_CONNECTED with a non-constant weight, which XNNPACK
    refuses. Query heads that share a key head become more rows of one product, a token's heads side by
    side as the projection gives them, so that keys are not repeated and one key head needs no transpose.

    Args:
        query: ``(N, Lq, H, d)``, already scaled by ``1 / sqrt(d)``.
        key: ``(N, Lk, K, d)``; K divides H, and head h reads key head ``h // (H / K)``.
        value: ``(N, Lk, K, d)``.
        bias: Added to the scores, ``(N or 1, Lq or 1, 1, Lk)``, or one for each head: ``(1, H, Lq, Lk)``
            where N is 1 and K is H.

    Returns:
        ``(N, Lq, H * d)``.
    """
    count, queries, heads, dim = query.shape
    keys, groups = key.shape[1:3]
    shared = heads // groups

    def by_group(x: Tensor, rows: int, width: int) -> Tensor:
        x = x.reshape(count, rows, groups, width)
        return x if groups == 1 else x.transpose(1, 2)

    rows = by_group(query, queries, shared * dim).reshape(1, count * groups, queries * shared, dim)
    key, value = (by_group(x, keys, dim).reshape(1, count * groups, keys, dim) for x in (key, value))
    scores = bmm_4d(rows, key)
    # The same for every query, or one for every head and query.
    if bias.shape[0] == bias.shape[1] == 1 or bias.shape == scores.shape:
        weights = torch.softmax(scores + bias, dim=-1)
    else:
        wide = (count, queries, shared, keys) if groups == 1 else (count, groups, queries, shared, keys)
        bias = bias if groups == 1 else bias[:, None]
        weights = torch.softmax(scores.reshape(wide) + bias, dim=-1).reshape(scores.shape)
    out = bmm_rows(weights, value)
    if groups > 1:
        out = out.reshape(count, groups, queries, shared * dim).transpose(1, 2)
    return out.reshape(count, queries, heads * dim)
