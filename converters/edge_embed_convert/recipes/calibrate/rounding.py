"""Rounding: moves the weights of a recipe's calibrated projections to their grids.

The second moments that GPTQ needs come from one pass of the calibration texts through the float32 model.
Each projection is then rounded alone, independent of how the others are stored. So a recipe and a calibration
text determine every bit of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from edge_embed.errors import RecipeError
from edge_embed_convert.graph.rewrite import EmbeddingModel
from edge_embed_convert.recipes.calibrate import balance
from edge_embed_convert.recipes.calibrate.gptq import gptq
from edge_embed_convert.recipes.grammar import CALIBRATED, Recipe, Scheme
from edge_embed_convert.recipes.placement import projections, scheme_of

Moments = Mapping[str, Tensor]
"""Second moments of the inputs of each projection, shape ``(in, in)``, by its path in the model."""


def collect_moments(
    model: nn.Module,
    sequences: Sequence[Sequence[int]],
    wanted: Callable[[str], bool] = lambda path: True,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Tensor]:
    """Runs token sequences through a model and sums up the second moments of what its projections read.

    Args:
        model: The whole graph, in float32.
        sequences: Ids with special tokens, at true length.
        wanted: Chooses projections by their paths.
        advance: Called after each sequence.
    """
    collector = _Collector()
    handles = [
        module.register_forward_pre_hook(collector.hook(path))
        for path, module in projections(model).items()
        if wanted(path)
    ]
    try:
        with torch.inference_mode():
            for ids in sequences:
                model(torch.tensor([list(ids)], dtype=torch.int32))
                advance()
    finally:
        for handle in handles:
            handle.remove()
    return collector.moments


class _Collector:
    """Sums up second moments; projections that read the same tensor share one sum."""

    def __init__(self) -> None:
        self.moments: dict[str, Tensor] = {}
        self._last: Tensor | None = None
        self._owner = ""

    def hook(self, path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0]
            if x is self._last:
                self.moments[path] = self.moments[self._owner]
                return
            rows = x.reshape(-1, x.shape[-1])
            if path not in self.moments:
                self.moments[path] = torch.zeros(x.shape[-1], x.shape[-1])
            self.moments[path].addmm_(rows.T, rows)
            self._last, self._owner = x, path

        return add


def rounded_weights(model: EmbeddingModel, recipe: Recipe, moments: Moments) -> Iterator[tuple[str, Tensor]]:
    """Yields each calibrated projection's weights on their grid, and the gains of norms that are balanced.

    Each comes with the path of the parameter that it replaces.

    Raises:
        RecipeError: If blocks do not divide a projection's rows.
    """
    constants = balance.constants(model, moments)
    balanced: dict[str, Tensor] = {}
    for gain, readers in balance.balanced_gains(model, recipe).items():
        balanced |= {path: constants[path] for path in readers}
        yield gain, model.get_parameter(gain).detach() * constants[readers[0]]
    for path, module in projections(model).items():
        scheme = scheme_of(model, path, recipe)
        if scheme.algorithm == CALIBRATED:
            check_blocks(path, module, scheme)
            weight = rounded(module.weight.detach(), moments[path], scheme, balanced.get(path))
            yield f"{path}.weight", weight


def rounded(weight: Tensor, moments: Tensor, scheme: Scheme, constants: Tensor | None = None) -> Tensor:
    """Rounds one projection's weights so that their errors cancel.

    Args:
        weight: Shape ``(out, in)``.
        moments: The moments of its inputs in float32.
        scheme: A calibrated one.
        constants: What its inputs will be multiplied by, shape ``(in,)``.

    Returns:
        The weights for inputs that are multiplied by these constants.
    """
    if constants is None:
        return gptq(weight, moments, scheme)
    return gptq(weight / constants, moments * constants * constants[:, None], scheme)


def check_blocks(path: str, module: nn.Linear, scheme: Scheme) -> None:
    """Checks that the rows of a projection are a whole number of blocks.

    Raises:
        RecipeError: If they are not.
    """
    if scheme.block and module.in_features % scheme.block:
        raise RecipeError(
            f"the scheme {scheme} does not fit {path}",
            got=f"rows of {module.in_features} weights",
            expected=f"a multiple of {scheme.block}",
            fix="use a per-channel recipe such as int8",
        )
