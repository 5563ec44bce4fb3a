"""OpenVINO over the exported ONNX graph, in the precision that it chooses for this processor."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

# Its telemetry starts a process that outlives this one, unless CI is set.
os.environ.setdefault("CI", "true")

import openvino

from edge_embed_bench.peers.base import Ids, OnnxPeer
from edge_embed_bench.worker.measure import Job


class OpenVINO(OnnxPeer):
    """Compiled for latency, with its own cache of compiled models."""

    packages = ("openvino",)

    def __init__(self) -> None:
        super().__init__()
        self._request: Any = None

    def load(self, job: Job) -> None:
        """Compiles the graph, or takes it from the cache."""
        super().load(job)
        core = openvino.Core()
        path = Path(str(job.artifact)) / "model.onnx"
        compiled = core.compile_model(
            str(path),
            "CPU",
            {"INFERENCE_NUM_THREADS": job.threads, "PERFORMANCE_HINT": "LATENCY", "CACHE_DIR": job.cache},
        )
        self.settings["precision"] = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self._request = compiled.create_infer_request()

    def run(self, tokens: Ids, mask: Ids) -> Any:
        """Returns ``(n, dimension)``."""
        return self._request.infer([tokens, mask])[0]
