"""Reads a `.litertlm` with MediaPipe's UniversalEmbedder: `python -m … FILE < texts > vectors`."""

from __future__ import annotations

import tempfile

from edge_embed_convert.containers.readers.exchange import Vectors, serve


def read(path: str, texts: list[str]) -> Vectors:
    """Yields a vector for each text."""
    from mediapipe.tasks.python.core.base_options import BaseOptions
    from mediapipe.tasks.python.retrieval import universal_embedder as mediapipe

    base = BaseOptions(model_asset_path=path)
    with tempfile.TemporaryDirectory() as cache:
        options = mediapipe.UniversalEmbedderOptions(base_options=base, cache_dir=cache)
        with mediapipe.UniversalEmbedder.create_from_options(options) as embedder:
            for text in texts:
                yield list(embedder.embed_text(text).embeddings[0].embedding)


if __name__ == "__main__":
    serve(read)
