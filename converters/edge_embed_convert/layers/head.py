"""What follows the encoder: pooling, then the checkpoint's other modules in their order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from edge_embed_convert.layers.common import LayerNorm, silu
from edge_embed_convert.source import modules
from edge_embed_convert.source.weights import Weights

FAR = 1e4
"""Pushes padding below any real activation before a maximum; fits into float16."""

TINY = 1e-24
"""Keeps an all-zero vector finite; far below float32's rounding of a unit vector's square norm."""

JOINED = 4
"""How many vectors one concatenation joins: the delegate takes one of at most five."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": nn.functional.gelu,
    "identity": lambda x: x,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "silu": silu,
    "tanh": torch.tanh,
}
"""What `source.modules.ACTIVATIONS` names."""


class Pooling(nn.Module):
    """Turns token vectors into one vector, by one or several modes concatenated.

    Args:
        modes: Names from `POOLING_MODES`, in the order in which their vectors are concatenated.
    """

    def __init__(self, modes: Sequence[str]) -> None:
        super().__init__()
        self.modes = tuple(modes)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Pools ``(1, L, D)`` to ``(1, D * modes)``.

        Args:
            x: Token vectors.
            mask: 1 for text and 0 for the padding after it, ``(1, L)``.
        """
        column = mask[..., None]
        pooled = [getattr(self, f"_{mode}")(x, column) for mode in self.modes]
        groups = [torch.cat(pooled[k : k + JOINED], dim=-1) for k in range(0, len(pooled), JOINED)]
        if len(groups) == 1:
            return groups[0]
        # Added up side by side: the converter makes one concatenation of nested ones.
        width, place = sum(group.shape[-1] for group in groups), 0
        wide = []
        for group in groups:
            wide.append(nn.functional.pad(group, (place, width - place - group.shape[-1])))
            place += group.shape[-1]
        return functools.reduce(torch.add, wide)

    def _cls(self, x: Tensor, mask: Tensor) -> Tensor:
        return x[:, 0]

    def _max(self, x: Tensor, mask: Tensor) -> Tensor:
        return (x * mask - (1.0 - mask) * FAR).amax(1)

    def _mean(self, x: Tensor, mask: Tensor) -> Tensor:
        # Divided before the sum, which in float16 would leave its range on long texts.
        return (x * (mask / mask.sum(1, keepdim=True).clamp(min=1.0))).sum(1)

    def _mean_sqrt_len_tokens(self, x: Tensor, mask: Tensor) -> Tensor:
        return (x * (mask * torch.rsqrt(mask.sum(1, keepdim=True).clamp(min=1.0)))).sum(1)

    def _weightedmean(self, x: Tensor, mask: Tensor) -> Tensor:
        # Position over length: the sum of whole numbers would leave float16's range at 362 tokens.
        length = x.shape[1]
        places = torch.arange(1, length + 1, dtype=torch.float32) / length
        weights = mask * places.to(x.dtype)[None, :, None]
        return (x * (weights / weights.sum(1, keepdim=True).clamp(min=1.0 / length))).sum(1)

    def _lasttoken(self, x: Tensor, mask: Tensor) -> Tensor:
        # The mask is ones and then zeros, so less its successor it is 1 at the last token alone.
        following = nn.functional.pad(mask[:, 1:], (0, 0, 0, 1))
        return (x * (mask - following)).sum(1)


class Head(nn.Module):
    """Pooling, then the modules that follow it.

    Args:
        modes: The pooling modes.
        following: The modules after the pooling, in order.

    Raises:
        CheckpointError: If a weight of a module is missing, left over, misshapen or not finite.
    """

    def __init__(self, modes: Sequence[str], following: Sequence[modules.HeadModule] = ()) -> None:
        super().__init__()
        self.pooling = Pooling(modes)
        # Recipes name projections by their number in this list.
        self.dense = nn.ModuleList()
        self.norms = nn.ModuleList()
        self._steps = [self._step(module) for module in following]

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Returns the embedding ``(1, dimension)``."""
        vector = self.pooling(x, mask)
        for step in self._steps:
            vector = step(self, vector)
        return vector

    def _step(self, module: modules.HeadModule) -> _Step:
        if isinstance(module, modules.Normalize):
            return lambda _, x: unit(x)
        if isinstance(module, modules.Cut):
            return lambda _, x: x[:, : module.dimension]
        weights = Weights.open(module.path)
        if isinstance(module, modules.Dense):
            step = self._dense_step(module, weights)
        else:
            shape, index = (module.dimension,), len(self.norms)
            gain, bias = weights.take("norm.weight", *shape), weights.take("norm.bias", *shape)
            self.norms.append(LayerNorm(gain, bias, modules.LAYER_NORM_EPS))
            step = lambda head, x: head.norms[index](x)  # noqa: E731
        weights.require_all_taken()
        return step

    def _dense_step(self, module: modules.Dense, weights: Weights) -> _Step:
        sizes, index = (module.out_features, module.in_features), len(self.dense)
        activation = ACTIVATIONS[module.activation]
        self.dense.append(weights.take_linear("linear", *sizes, bias=module.bias))
        if module.projects_residual:
            self.dense.append(weights.take_linear("residual", *sizes, bias=False))
            return lambda head, x: activation(head.dense[index](x)) + head.dense[index + 1](x)
        if module.residual:
            return lambda head, x: activation(head.dense[index](x)) + x
        return lambda head, x: activation(head.dense[index](x))


_Step = Callable[[Head, Tensor], Tensor]
"""What one module does. It is given the head, since a copy of the head has parameters of its own."""


def unit(x: Tensor) -> Tensor:
    """Divides vectors by their L2 norm."""
    # With rsqrt it stays elementwise; x / sqrt(sum) becomes an L2_NORMALIZATION that GPUs refuse.
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + TINY)
