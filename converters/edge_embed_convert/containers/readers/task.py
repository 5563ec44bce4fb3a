"""Reads a `.task` with MediaPipe's TextEmbedder: `python -m … FILE < texts > vectors`."""

from __future__ import annotations

from edge_embed_convert.containers.readers.exchange import Vectors, serve


def read(path: str, texts: list[str]) -> Vectors:
    """Yields a vector for each text."""
    from mediapipe.tasks.python.core.base_options import BaseOptions
    from mediapipe.tasks.python.text import TextEmbedder, TextEmbedderOptions

    options = TextEmbedderOptions(base_options=BaseOptions(model_asset_path=path))
    with TextEmbedder.create_from_options(options) as embedder:
        for text in texts:
            yield list(embedder.embed(text).embeddings[0].embedding)


if __name__ == "__main__":
    serve(read)
