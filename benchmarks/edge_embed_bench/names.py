"""Names that the command line shows in its help. Nothing here imports numpy or an engine."""

from __future__ import annotations

SYNTHETIC = ("embeddinggemma-300m", "minilm")
"""Shapes of `--synthetic`; `synthetic.models.SHAPES` describes them."""

PEERS = (
    *("onnxruntime-fp32", "onnxruntime-int8", "openvino", "sentence-transformers-fp32"),
    *("sentence-transformers-bf16", "llama.cpp-q8_0", "llama.cpp-q4_0", "litert-torch"),
)
"""Engines of `--peers`; `peers.registry.PEERS` describes them."""

INDEX_ENGINES = ("edge_embed-full", "edge_embed-low", "edge_embed-full-hybrid", "edge_embed-low-hybrid")
"""Our index under `--index`: how much memory it holds, and the mode of the search."""

INDEX_PEERS = ("sqlite-vec", "usearch-int8", "faiss-flat")
"""Engines of `--peers` with `--index`; `retrieval.engines` describes them."""

THRESHOLD = 5.0
"""Percent by which a figure may become worse."""
