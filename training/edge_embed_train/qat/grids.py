"""The arithmetic of a quantized file, in PyTorch, bit for bit.

Weights: ai-edge-quantizer 0.10 (`uniform_quantize_tensor.py`), symmetric, min-max. The largest weight of
a row or block sets the scale, absmax / 127, absmax / 7 or, at 2 bits, absmax. int8 is clipped to
-127 … 127, int4 to -8 … 7 and int2 to -2 … 1. A scale per block is rounded to bfloat16 and then to float16
before anything is divided by it.

Inputs: XNNPACK's dynamic int8 (`xnn_f32_qd8_asymmetric_quantization_params`): each row has its own scale
and zero point.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edge_embed_convert.recipes.grammar import Scheme
from edge_embed_convert.recipes.planes import round_to_int4

LEAST = 1e-9
"""The smallest largest weight that ai-edge-quantizer divides: an all-zero row has a scale, too."""


def stored(weight: Tensor, scheme: Scheme) -> Tensor:
    """Returns a weight ``(rows, columns)`` as the file holds it, dequantized, in float32.

    Args:
        weight: In float32, as the converter writes it: see `layout`.
        scheme: Of the recipe; min-max.
    """
    if scheme.bits == 16:
        return weight.half().float()
    if not scheme.integer:
        return weight
    if scheme.bits == 8 and scheme.block:
        # Two planes of int4, as `planes.TwoPlanes` splits it ahead of ai-edge-quantizer.
        coarse = round_to_int4(weight, scheme.block)
        return _by_block(coarse, scheme.block) + _by_block(weight - coarse, scheme.block)
    if scheme.block:
        return _by_block(weight, scheme.block)
    steps, scale = steps_and_scales(weight, scheme.bits)
    return steps * scale


def steps_and_scales(weight: Tensor, bits: int, block: int = 0) -> tuple[Tensor, Tensor]:
    """Returns the whole numbers and the scales that ai-edge-quantizer writes.

    Args:
        weight: Shape ``(rows, columns)``.
        bits: 8, 4 or 2.
        block: Weights per scale, 0 for one per row. With blocks, 4 bits.

    Returns:
        Both with the shape ``(rows, columns)`` and ``(rows, 1)``, or ``(rows, blocks, block)`` and
        ``(rows, blocks, 1)``.
    """
    parts = weight.reshape(weight.shape[0], -1, block) if block else weight
    last = 2 ** (bits - 1) - 1
    scale = parts.abs().amax(-1, keepdim=True).clamp(min=LEAST) / last
    if block:
        scale = scale.to(torch.bfloat16).to(torch.float16).to(torch.float32)
    # Where a block's scale is too small for float16 it is 0, and so is what the file holds.
    divisor = torch.where(scale == 0, torch.ones_like(scale), scale)
    lowest = -last if bits == 8 else -last - 1
    return (parts / divisor).round().clamp(lowest, last), scale


def _by_block(weight: Tensor, block: int) -> Tensor:
    steps, scale = steps_and_scales(weight, 4, block)
    return (steps * scale).reshape(weight.shape)


def rounded_rows(x: Tensor) -> Tensor:
    """Returns the inputs of an integer projection as XNNPACK rounds them, dequantized.

    Args:
        x: Shape ``(..., columns)``; each row has its own scale and zero point.
    """
    lowest = x.amin(-1, keepdim=True).clamp(max=0.0)
    highest = x.amax(-1, keepdim=True).clamp(min=0.0)
    span = highest - lowest
    scale = torch.where(span == 0, torch.ones_like(span), 255.0 / span)
    from_lowest, from_highest = -128.0 + lowest * scale, 127.0 + highest * scale
    zero = torch.where(from_lowest + from_highest > 0, -128.0 - lowest * scale, 127.0 - highest * scale)
    zero = zero.clamp(-128.0, 127.0).round()
    steps = ((x * scale).round() + zero).clamp(-128.0, 127.0)
    return (steps - zero) * (1.0 / scale)


class StraightThrough(torch.autograd.Function):
    """Puts a rounded value in the place of an exact one; gradients pass as if nothing was rounded."""

    @staticmethod
    def forward(ctx: Any, exact: Tensor, rounded: Tensor) -> Tensor:
        """Returns the rounded value."""
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Hands the gradient to the exact value."""
        return gradients[0], None


def straight_through(exact: Tensor, rounded: Tensor) -> Tensor:
    """Returns the rounded value; gradients go to the exact one as if nothing was rounded."""
    result: Tensor = StraightThrough.apply(exact, rounded)  # type: ignore[no-untyped-call]
    return result
