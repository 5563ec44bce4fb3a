"""Simulate: a recipe's arithmetic in PyTorch, so that a trial costs seconds and no export.

Weights are rounded to the grid that they would have in the file, and the inputs of every integer projection
are rounded to int8 row by row, as XNNPACK does. For all-MiniLM-L6-v2 the simulated mean cosine and that of
the written files agree to about 0.001. The file decides.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from edge_embed.errors import RecipeError
from edge_embed.model_file.probes import Probe
from edge_embed.names import OUTPUT_NAME
from edge_embed.proof.parity import compare
from edge_embed_convert.auto.budget import NEIGHBOURS, Score
from edge_embed_convert.graph.rewrite import EmbeddingModel
from edge_embed_convert.graph.weights import TABLE
from edge_embed_convert.recipes.calibrate.balance import BALANCED, constants
from edge_embed_convert.recipes.calibrate.gptq import min_max, nearest
from edge_embed_convert.recipes.calibrate.rounding import Moments, rounded
from edge_embed_convert.recipes.grammar import ALGORITHMS, CALIBRATED, MIN_MAX, Scheme
from edge_embed_convert.recipes.placement import projections


class Simulation:
    """A model whose weights can temporarily be stored in another way.

    Args:
        model: The graph in float32. It is unchanged between trials.
        moments: Second moments of what each projection reads, over the calibration texts.
        probes: The source's answers to the measuring texts.
    """

    def __init__(self, model: EmbeddingModel, moments: Moments, probes: Sequence[Probe]) -> None:
        self._model, self._moments, self._probes = model, moments, probes
        self._linear = projections(model)
        self._constants = constants(model, moments)

    def weight(self, path: str) -> Tensor:
        """Returns the float32 weight at a path, or the embedding table."""
        return self._table.detach() if path == TABLE else self._linear[path].weight.detach()

    @property
    def _table(self) -> nn.Parameter:
        table = self._model.encoder.table
        if not isinstance(table, nn.Parameter):
            raise TypeError("the encoder's table is not a parameter")
        return table

    def stored(self, path: str, scheme: Scheme) -> Tensor:
        """Returns a weight as the file would have it, for inputs as they are in float32."""
        weight = self.weight(path)
        if scheme.bits == 16:
            return weight.half().float()
        if not scheme.integer:
            return weight
        if scheme.algorithm == MIN_MAX:
            return min_max(weight, scheme)
        if scheme.algorithm in ALGORITHMS and ALGORITHMS[scheme.algorithm].clips:
            return nearest(weight, scheme)
        if scheme.algorithm != CALIBRATED:
            clipping = [name for name, algorithm in ALGORITHMS.items() if algorithm.clips]
            raise RecipeError(
                "this rounding algorithm cannot be simulated",
                got=repr(scheme.algorithm),
                expected=" or ".join((MIN_MAX, *clipping, CALIBRATED)),
            )
        balance = self._balance(path, scheme)
        return rounded(weight, self._moments[path], scheme, balance) * (1.0 if balance is None else balance)

    def _balance(self, path: str, scheme: Scheme) -> Tensor | None:
        """Returns what the inputs of a projection are multiplied with under a scheme.

        What reads one tensor is one part of a search, so all of it has the scheme.
        """
        return self._constants.get(path) if scheme == BALANCED else None

    def score(self, schemes: Mapping[str, Scheme]) -> Score:
        """Measures a mixture.

        Args:
            schemes: How the weights at some paths are stored; the others stay in float32, and so do the
                inputs of a projection that is not stored in integers.
        """
        with self._holding(schemes), torch.inference_mode():
            vectors = [
                self._model(torch.tensor([probe.tokens], dtype=torch.int32))[OUTPUT_NAME][0].numpy()
                for probe in self._probes
            ]
        return Score.of(
            compare(
                np.stack(vectors),
                np.stack([probe.vector for probe in self._probes]),
                [probe.length for probe in self._probes],
                token_mismatches=0,
                thresholds={},
                k=NEIGHBOURS,
            )
        )

    @contextlib.contextmanager
    def _holding(self, schemes: Mapping[str, Scheme]) -> Iterator[None]:
        before: list[tuple[Tensor, Tensor]] = []
        handles = []
        try:
            for path, scheme in schemes.items():
                stored = self.stored(path, scheme)
                parameter: Tensor = self._table if path == TABLE else self._linear[path].weight
                before.append((parameter, parameter.data))
                parameter.data = stored
                if path != TABLE and scheme.integer:
                    hook = _rounding(self._balance(path, scheme))
                    handles.append(self._linear[path].register_forward_pre_hook(hook))
            yield
        finally:
            for handle in handles:
                handle.remove()
            for parameter, data in before:
                parameter.data = data


def _rounding(constants: Tensor | None) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """Returns a hook that rounds inputs as they are after balancing."""

    def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = inputs[0]
        rows = _rounded_rows(x) if constants is None else _rounded_rows(x * constants) / constants
        return (rows, *inputs[1:])

    return hook


def _rounded_rows(x: Tensor) -> Tensor:
    """Rounds each row to int8 with its own scale and zero point."""
    lowest, highest = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    scale = ((highest - lowest) / 255).clamp(min=1e-12)
    zero = (-128 - lowest / scale).round().clamp(-128, 127)
    return ((x / scale + zero).round().clamp(-128, 127) - zero) * scale
