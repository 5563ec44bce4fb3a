"""sentence-transformers on PyTorch, on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from edge_embed_bench.peers.base import Ids, TokenPeer
from edge_embed_bench.worker.measure import Job


class Float32(TokenPeer):
    """float32 weights and arithmetic."""

    packages = ("sentence-transformers", "transformers", "torch")
    dtype = torch.float32

    def __init__(self) -> None:
        super().__init__()
        self._model: Any = None

    def load(self, job: Job) -> None:
        """Loads the checkpoint."""
        super().load(job)
        torch.set_num_threads(job.threads)
        self._model = SentenceTransformer(
            str(job.artifact), device="cpu", model_kwargs={"dtype": self.dtype}, local_files_only=True
        )
        self._model.to(self.dtype)  # the Dense modules too
        self.settings["dtype"] = str(self.dtype).removeprefix("torch.")

    def run(self, tokens: Ids, mask: Ids) -> Any:
        """Returns ``(n, dimension)``."""
        features = {"input_ids": torch.from_numpy(tokens), "attention_mask": torch.from_numpy(mask)}
        # A static model takes all texts in one row, and where each starts.
        if isinstance(getattr(self._model[0], "embedding", None), torch.nn.EmbeddingBag):
            ends = mask.sum(1).cumsum()
            features = {
                "input_ids": torch.from_numpy(tokens[mask == 1]),
                "offsets": torch.from_numpy(np.concatenate([[0], ends[:-1]])),
            }
        with torch.inference_mode():
            return self._model(features)["sentence_embedding"].float().numpy()


class BFloat16(Float32):
    """bfloat16 weights and arithmetic."""

    dtype = torch.bfloat16
