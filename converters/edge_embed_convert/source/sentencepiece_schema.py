"""SentencePiece's own file format, which protobuf reads and writes."""

from __future__ import annotations

from typing import Any

from edge_embed.errors import MissingExtraError


def schema() -> Any:
    """Returns the module with the messages of a SentencePiece model.

    Raises:
        MissingExtraError: If protobuf is not installed.
    """
    try:
        from sentencepiece import sentencepiece_model_pb2  # conversion only
    except ImportError as error:
        raise MissingExtraError(
            "protobuf", extra="convert", purpose="writing a SentencePiece model"
        ) from error
    return sentencepiece_model_pb2
