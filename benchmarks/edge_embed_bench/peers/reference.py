"""The fp32 source, one text after another and without padding. Every engine is compared with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from edge_embed_bench.worker.measure import Job
from edge_embed_convert.source.checkpoint import load
from edge_embed_convert.source.reference import Reference


class FP32Source:
    """The same reference that the conversion uses. It is not measured."""

    def __init__(self) -> None:
        self._reference: Any = None

    def load(self, job: Job) -> None:
        """Loads the checkpoint that `artifact` names."""
        torch.set_num_threads(job.threads)
        assert job.artifact is not None
        self._reference = Reference(load(job.artifact))

    def embed(self, batch: Sequence[Sequence[int]]) -> Any:
        """Returns ``(n, dimension)``."""
        return np.stack([self._reference.embed_tokens(sequence) for sequence in batch])

    def facts(self) -> dict[str, dict[str, str]]:
        """Returns PyTorch's version."""
        return {"versions": {"torch": torch.__version__}, "settings": {}}
