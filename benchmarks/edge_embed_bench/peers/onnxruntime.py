"""ONNX Runtime: float32, and its dynamic int8 quantization per channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime

from edge_embed_bench.peers.base import Ids, OnnxPeer
from edge_embed_bench.worker.measure import Job

_FILE, _INPUTS = "model.onnx", ("input_ids", "attention_mask")


class Float32(OnnxPeer):
    """The exported graph as it is."""

    packages = ("onnxruntime",)

    def __init__(self) -> None:
        super().__init__()
        self._session: Any = None

    def load(self, job: Job) -> None:
        """Opens a session with all graph optimizations."""
        super().load(job)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = job.threads, 1
        options.log_severity_level = 3
        path = Path(str(job.artifact)) / _FILE
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, tokens: Ids, mask: Ids) -> Any:
        """Returns ``(n, dimension)``."""
        return self._session.run(None, dict(zip(_INPUTS, (tokens, mask), strict=True)))[0]


class DynamicInt8(Float32):
    """The graph with int8 weights per channel and activations quantized while running."""

    def prepare(self, checkpoint: str, directory: str) -> None:
        """Quantizes the graph that `Float32` has exported into the directory `checkpoint`."""
        from onnxruntime.quantization import QuantType, quantize_dynamic  # brings onnx

        quantize_dynamic(
            Path(checkpoint) / _FILE, Path(directory) / _FILE, per_channel=True, weight_type=QuantType.QInt8
        )

    def load(self, job: Job) -> None:
        """Opens a session."""
        super().load(job)
        self.settings["quantization"] = "dynamic int8, per channel"
