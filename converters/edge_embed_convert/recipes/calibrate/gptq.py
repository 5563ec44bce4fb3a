"""GPTQ: rounds weights to an integer grid so that the errors cancel for typical inputs.

Weights are rounded column by column. The error of each is distributed over the weights of its row that are
not rounded yet, in proportions that follow from the second moments of the inputs (arXiv 2210.17323). The
grid is chosen before: for each row, or each block of a row, the clipping with the least error, where
columns with large inputs weigh more.

The results are float32 weights that lie exactly on a grid, and in every row or block one weight lies on the
grid's last step. So ai-edge-quantizer's min-max finds the same grid again and stores the weights unchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edge_embed_convert.recipes.grammar import Scheme

LARGEST = {8: 127, 4: 7, 2: 1}
"""The last step of ai-edge-quantizer's symmetric grids, by bits."""

CLIPS = 30
"""How many clippings are tried, from `LEAST_CLIP` of the largest weight to all of it."""

LEAST_CLIP = {8: 1.0, 4: 0.45, 2: 0.2}
"""By bits. At 8 bits clipping gains nothing; see recipes.grammar.ALGORITHMS. At 2 bits the best clip of
weights with a normal distribution is 1.22 times their deviation; the largest of some hundred is 3 times."""

DAMPING = 0.05
"""Added to the moments' diagonal, as a share of its mean: some thousand tokens determine a matrix of
some hundred columns only roughly. 0.01, 0.05 and 0.1 differ by less than 2e-4 in cosine."""

COLUMNS = 64
"""Columns rounded before their errors are added to all other columns; affects speed only."""

_TINY = 1e-12


def grid(weight: Tensor, scheme: Scheme, importance: Tensor | None = None) -> Tensor:
    """Returns the steps of the grid that errs least.

    Args:
        weight: Shape ``(out, in)``.
        scheme: A scheme of integers.
        importance: The weight of each column, shape ``(in,)``; equal by default.

    Returns:
        The steps, shape ``(out, in / block, 1)``; one block, the whole row, for a scheme without blocks.
    """
    last, block = LARGEST[scheme.bits], scheme.block or weight.shape[1]
    blocks = weight.reshape(weight.shape[0], -1, block)
    counts = torch.ones_like(blocks[:1]) if importance is None else importance.reshape(1, -1, block)
    largest = blocks.abs().amax(-1, keepdim=True).clamp(min=_TINY)
    steps, least = largest / last, torch.full_like(largest, torch.inf)
    lowest = LEAST_CLIP[scheme.bits]
    for clip in torch.linspace(lowest, 1.0, CLIPS if lowest < 1.0 else 1).tolist():
        tried = _stored(largest * (clip / last), scheme)
        error = ((_round(blocks / tried, last) * tried - blocks).square() * counts).sum(-1, keepdim=True)
        steps, least = torch.where(error < least, tried, steps), torch.minimum(error, least)
    return steps


def nearest(weight: Tensor, scheme: Scheme, importance: Tensor | None = None) -> Tensor:
    """Returns the weights rounded one by one to the grid with the least error."""
    return _on_grid(weight, grid(weight, scheme, importance), scheme)


def min_max(weight: Tensor, scheme: Scheme) -> Tensor:
    """Returns the weights rounded one by one to the grid that the largest weight sets."""
    blocks = weight.reshape(weight.shape[0], -1, scheme.block or weight.shape[1])
    steps = _stored(blocks.abs().amax(-1, keepdim=True).clamp(min=_TINY) / LARGEST[scheme.bits], scheme)
    return _on_grid(weight, steps, scheme)


def gptq(weight: Tensor, moments: Tensor, scheme: Scheme) -> Tensor:
    """Returns the weights rounded so that their errors cancel.

    Args:
        weight: Shape ``(out, in)``.
        moments: Second moments of what the columns are multiplied with, shape ``(in, in)``, up to a factor.
        scheme: A scheme of integers.

    Returns:
        The weights on their grid, shape ``(out, in)``, float32.
    """
    if not bool(moments.diagonal().any()):
        return nearest(weight, scheme)
    moments = moments.double()
    diagonal = moments.diagonal()
    moments = moments + torch.diag(torch.full_like(diagonal, DAMPING * float(diagonal.mean())))
    steps = grid(weight, scheme, moments.diagonal().float())
    last, width = LARGEST[scheme.bits], weight.shape[1]
    # The most important columns come first, while the others can still compensate for their errors.
    order = torch.argsort(moments.diagonal(), descending=True, stable=True)
    factor = torch.linalg.cholesky(
        torch.cholesky_inverse(torch.linalg.cholesky(moments[order][:, order])), upper=True
    ).float()
    free = weight[:, order].clone()
    column_steps = steps.expand(-1, -1, scheme.block or width).reshape(weight.shape)[:, order]
    for start in range(0, width, COLUMNS):
        end = min(start + COLUMNS, width)
        chunk, errors = free[:, start:end], torch.empty(weight.shape[0], end - start)
        for column in range(end - start):
            at = start + column
            step = column_steps[:, at]
            rounded = _round(chunk[:, column] / step, last) * step
            errors[:, column] = (chunk[:, column] - rounded) / factor[at, at]
            chunk[:, column:] -= errors[:, column, None] * factor[at, at:end]
            chunk[:, column] = rounded
        free[:, end:] -= errors @ factor[start:end, end:]
    return _reaching_the_end(free[:, torch.argsort(order)], weight, steps, scheme)


def _reaching_the_end(rounded: Tensor, weight: Tensor, steps: Tensor, scheme: Scheme) -> Tensor:
    """Moves each block's largest weight to the last step, from which min-max derives the grid."""
    shape = (weight.shape[0], -1, scheme.block or weight.shape[1])
    blocks, original = rounded.reshape(shape).clone(), weight.reshape(shape)
    last = LARGEST[scheme.bits] * steps
    short = blocks.abs().amax(-1, keepdim=True) < last * (1 - 0.25 / LARGEST[scheme.bits])
    largest = original.abs().argmax(-1, keepdim=True)
    end = original.gather(-1, largest).sign() * last  # zero stays zero
    blocks.scatter_(-1, largest, torch.where(short, end, blocks.gather(-1, largest)))
    return blocks.reshape(weight.shape)


def _on_grid(weight: Tensor, steps: Tensor, scheme: Scheme) -> Tensor:
    blocks = weight.reshape(weight.shape[0], -1, scheme.block or weight.shape[1])
    return (_round(blocks / steps, LARGEST[scheme.bits]) * steps).reshape(weight.shape)


def _stored(steps: Tensor, scheme: Scheme) -> Tensor:
    """Returns the steps as the file holds them: float16 where there is one per block."""
    if not scheme.block:
        return steps
    return steps.to(torch.float16).float().clamp(min=torch.finfo(torch.float16).tiny)


def _round(values: Tensor, last: int) -> Tensor:
    return values.round().clamp(-last, last)
