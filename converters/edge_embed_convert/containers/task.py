"""`.task`: a stored zip with a graph and a SentencePiece model, for MediaPipe's TextEmbedder.

TextEmbedder runs the first subgraph, whatever a text's length. It has another path for BERT, whose graphs
take ids, mask and segments as three inputs and name a vocab.txt in their metadata. Its WordPiece lowers only
the letters A to Z and takes no accents off. BERT's uncased models do both to every letter: other texts would
get other vectors, and nothing would say so. docs/containers.md has the figures.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from edge_embed.model_file.file import ModelFile
from edge_embed_convert.containers.contents import graph_of, licence_files
from edge_embed_convert.containers.names import TASK, TOKENIZER_MEMBER
from edge_embed_convert.containers.readback import Reader
from edge_embed_convert.containers.sentencepiece import require_sentencepiece, with_special_tokens

READER = Reader("edge_embed_convert.containers.readers.task", "mediapipe", "mediapipe")

GRAPH_MEMBER = "model.tflite"
"""The name of the graph in the zip."""

ALIGNMENT = 64
"""The graph begins at a multiple of this, as its constants do within it, so that it can be mapped."""

_PADDING_FIELD = 0xD935
"""The id of an extra field in a zip that holds nothing but padding."""

_HEADER = 30
"""Bytes of a member's header in a zip, ahead of its name."""


_WORDPIECE = (
    "a SentencePiece tokenizer; TextEmbedder's own WordPiece lowers only A to Z and keeps accents, so other "
    "texts would silently get other vectors"
)


def check(model: ModelFile) -> None:
    """Refuses a file that TextEmbedder cannot run.

    Raises:
        ConversionError: If its tokenizer is not a SentencePiece model.
    """
    require_sentencepiece(model, f".{TASK}", _WORDPIECE)


def write(model: ModelFile, buckets: list[int], target: Path) -> None:
    """Writes the file with the first of `buckets`, the only length that its reader runs."""
    with zipfile.ZipFile(target, "x", zipfile.ZIP_STORED) as archive:
        archive.writestr(_member(GRAPH_MEMBER, aligned=True), graph_of(model, buckets[0]))
        archive.writestr(_member(TOKENIZER_MEMBER), with_special_tokens(model))
        for name, data in licence_files(model).items():
            archive.writestr(_member(name), data)


def _member(name: str, *, aligned: bool = False) -> zipfile.ZipInfo:
    """Returns a member's entry; an aligned one must come first."""
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system, info.external_attr = 3, 0o644 << 16
    if aligned:
        missing = -(_HEADER + len(name) + 4) % ALIGNMENT
        info.extra = struct.pack("<HH", _PADDING_FIELD, missing) + bytes(missing)
    return info
