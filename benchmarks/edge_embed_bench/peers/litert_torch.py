"""litert-torch's stock EmbeddingGemma: one int8 graph of one length, run by the plain interpreter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edge_embed_bench.peers.base import Ids, TokenPeer
from edge_embed_bench.worker.measure import Job

LEAST_LENGTH = 256
"""The shortest graph that users of this example export. Every text is padded to the length of its graph."""


class StockInt8(TokenPeer):
    """Runs a text in the graph of the next power of two."""

    packages = ("litert-torch", "ai-edge-litert")

    def __init__(self) -> None:
        super().__init__()
        self._length = 0
        self._runner: Any = None
        self._interpreter: Any = None
        self._types: dict[str, Any] = {}

    def prepare(self, checkpoint: str, directory: str) -> None:
        """Exports a graph per power of two up to the longest text."""
        from edge_embed_bench.peers.litert_torch_export import export  # torch

        config = json.loads((Path(checkpoint) / "config.json").read_text("utf-8"))
        lengths = [LEAST_LENGTH]
        while lengths[-1] < int(config["max_position_embeddings"]):
            lengths.append(2 * lengths[-1])
        export(checkpoint, lengths, Path(directory))

    def load(self, job: Job) -> None:
        """Opens the graph."""
        super().load(job)
        kept = sorted(int(path.stem) for path in Path(str(job.artifact)).glob("*.tflite"))
        self._length = next(length for length in kept if length >= job.length)
        self.file = str(Path(str(job.artifact)) / f"{self._length}.tflite")
        self.settings["graph"] = f"the least of {kept} tokens that takes the text"
        self._interpreter = Interpreter(self.file, num_threads=job.threads)
        self._interpreter.allocate_tensors()
        self._runner = self._interpreter.get_signature_runner()
        self._types = {name: facts["dtype"] for name, facts in self._runner.get_input_details().items()}

    def run(self, tokens: Ids, mask: Ids) -> Any:
        """Returns ``(n, dimension)``, one text after another."""
        room = ((0, 0), (0, self._length - tokens.shape[1]))
        padded = np.pad(tokens, room), np.pad(mask, room)
        return np.concatenate([self._one(*pair) for pair in zip(*padded, strict=True)])

    def _one(self, tokens: Ids, mask: Ids) -> Any:
        inputs = {"args_0": tokens[None], "args_1": mask[None]}
        (vector,) = self._runner(**{name: x.astype(self._types[name]) for name, x in inputs.items()}).values()
        return vector
