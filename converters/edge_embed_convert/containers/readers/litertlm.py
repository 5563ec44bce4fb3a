"""Reads a `.litertlm` with LiteRT-LM's EmbeddingEngine: `python -m … FILE < texts > vectors`."""

from __future__ import annotations

import tempfile

from edge_embed_convert.containers.readers.exchange import Vectors, serve


def read(path: str, texts: list[str]) -> Vectors:
    """Yields a vector for each text."""
    from litert_lm.embedding_engine import EmbeddingEngine, EmbeddingOptions, InputOverflowStrategy

    options = EmbeddingOptions(input_overflow_strategy=InputOverflowStrategy.ERROR)
    with tempfile.TemporaryDirectory() as cache, EmbeddingEngine(path, cache_dir=cache) as engine:
        for text in texts:
            yield engine.compute_embedding(text, options).embedding


if __name__ == "__main__":
    serve(read)
