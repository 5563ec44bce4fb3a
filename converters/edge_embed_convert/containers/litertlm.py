"""`.litertlm`: LiteRT-LM's file of a model, for its EmbeddingEngine and MediaPipe's UniversalEmbedder.

It holds the token table and the encoder as two graphs, the tokenizer, and the ids around a text. The engine
takes the shortest signature that fits a text.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from edge_embed.extras import needs_extra
from edge_embed.model_file.file import ModelFile
from edge_embed.names import TOKENIZERS
from edge_embed_convert.containers.contents import licence_files, read_graph
from edge_embed_convert.containers.names import EXTRA
from edge_embed_convert.containers.readback import Reader
from edge_embed_convert.containers.sentencepiece import with_special_tokens
from edge_embed_convert.containers.split import split

READER = Reader("edge_embed_convert.containers.readers.litertlm", "litert_lm", "litert-lm-api")
UNIVERSAL = Reader("edge_embed_convert.containers.readers.universal", "mediapipe", "mediapipe")
"""The other reader of these files; the tests run it."""

BUILDER = Reader("", "litert_lm_builder", "litert-lm-builder")


def check(model: ModelFile) -> None:
    """Requires the package that writes the file. What the engine cannot run shows when it is read back.

    Raises:
        MissingExtraError: If it is not installed.
    """
    BUILDER.require("writing a .litertlm")


def write(model: ModelFile, buckets: list[int], target: Path) -> None:
    """Writes the file with a signature for each of `buckets`.

    Raises:
        ConversionError: If the graph cannot be cut in two.
    """
    with needs_extra(EXTRA, "writing a .litertlm"):
        from litert_lm_builder import litertlm_builder as builder

    manifest = model.manifest
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.") as scratch:

        def file(name: str, data: bytes) -> str:
            path = Path(scratch) / name
            path.write_bytes(data)
            return str(path)

        parts = split(bytes(read_graph(model)), buckets)
        made: Any = builder.LitertLmFileBuilder()
        for key, value in {
            "Authors": manifest.source.id,
            "License": manifest.licence.name or "not stated",
        }.items():
            made.add_system_metadata(builder.Metadata(key, value, builder.DType.STRING))
        made.add_embedding_metadata(file("metadata.pb", _metadata(model, buckets)))
        kinds = builder.TfLiteModelType
        made.add_tflite_model(file("embedder.tflite", parts.embedder), kinds.EMBEDDER)
        made.add_tflite_model(file("encoder.tflite", parts.encoder), kinds.TEXT_ENCODER)
        if manifest.tokenizer.kind == TOKENIZERS:
            made.add_hf_tokenizer(file("tokenizer.json", model.read(manifest.tokenizer.file)))
        else:
            made.add_sentencepiece_tokenizer(file("tokenizer.spm", with_special_tokens(model)))
        for name, data in licence_files(model).items():
            entry = builder.Metadata("name", name, builder.DType.STRING)
            made.add_generic_binary_data(file(name, data), [entry])
        with target.open("xb") as stream:
            made.build(stream)


def _metadata(model: ModelFile, buckets: list[int]) -> bytes:
    from litert_lm_builder.runtime.proto import embedding_metadata_pb2 as schema

    record = model.manifest.tokenizer
    metadata = schema.EmbeddingMetadata()
    metadata.embedding_model_type.generic_model.SetInParent()
    metadata.bos_token.token_ids.ids.extend(record.prefix_ids)
    metadata.eos_token.token_ids.ids.extend(record.suffix_ids)
    metadata.min_input_length, metadata.max_input_length = buckets[0], buckets[-1]
    data: bytes = metadata.SerializeToString(deterministic=True)
    return data
