"""Simulate: a recipe's arithmetic in PyTorch, so that a trial costs seconds and no export.

Weights are put on the grid that they would have in the file, and the inputs of every integer projection are
rounded to int8 row by row, as XNNPACK does while running. The front so simulated
for all-MiniLM-L6-v2 and the files written near it agree to some 0.001 in mean cosine; the file is the judge.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edge_embed._manifest import OUTPUT_NAME, Parity
from edge_embed._modelfile import Probe
from edge_embed._parity import compare
from edge_embed_convert.calibrate.gptq import gptq, min_max, nearest
from edge_embed_convert.calibrate.rounding import Moments, projections
from edge_embed_convert.encoders import EmbeddingModel
from edge_embed_convert.recipes import CALIBRATED, MIN_MAX, Scheme

NEIGHBOURS = 10
"""How many nearest neighbours of each text are compared: the ten that a search shows."""

TABLE = "table"
"""Stands for the embedding table where projections are named by their paths."""


@dataclass(frozen=True)
class Score:
    """Agreement with the source over the texts that judge.

    Attributes:
        cosine: Mean cosine.
        lowest: Lowest cosine.
        neighbours: Share of the ten nearest neighbours in common.
    """

    cosine: float
    lowest: float
    neighbours: float

    @classmethod
    def of(cls, parity: Parity) -> Score:
        """Takes the figures out of a report."""
        return cls(parity.cosine_mean, parity.cosine_min, parity.neighbours)


class Simulation:
    """A model whose weights may be stored otherwise for a while.

    Args:
        model: The graph in float32. It is as it was whenever no trial runs.
        moments: What each projection is fed by the calibration texts.
        probes: The source's answers to the texts that judge.
    """

    def __init__(self, model: EmbeddingModel, moments: Moments, probes: Sequence[Probe]) -> None:
        self._model, self._moments, self._probes = model, moments, probes
        self._linear = projections(model)

    def weight(self, path: str) -> Tensor:
        """Returns the float32 weight at a path, or the embedding table."""
        return self._table.detach() if path == TABLE else self._linear[path].weight.detach()

    @property
    def _table(self) -> nn.Parameter:
        table = self._model.encoder.table
        if not isinstance(table, nn.Parameter):
            raise TypeError("the encoder's table is no parameter")
        return table

    def stored(self, path: str, scheme: Scheme) -> Tensor:
        """Returns a weight as the file would have it."""
        weight = self.weight(path)
        if scheme.bits == 16:
            return weight.half().float()
        if not scheme.integer:
            return weight
        if scheme.algorithm == MIN_MAX:
            return min_max(weight, scheme)
        # OCTAV and the grid search look for the same clipping, each in its own way.
        return (
            gptq(weight, self._moments[path], scheme)
            if scheme.algorithm == CALIBRATED
            else nearest(weight, scheme)
        )

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
                    handles.append(self._linear[path].register_forward_pre_hook(_rounded_inputs))
            yield
        finally:
            for handle in handles:
                handle.remove()
            for parameter, data in before:
                parameter.data = data


def _rounded_inputs(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Rounds each row to int8 with its own scale and zero point."""
    x = inputs[0]
    lowest, highest = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    scale = ((highest - lowest) / 255).clamp(min=1e-12)
    zero = (-128 - lowest / scale).round().clamp(-128, 127)
    return (((x / scale + zero).round().clamp(-128, 127) - zero) * scale, *inputs[1:])
