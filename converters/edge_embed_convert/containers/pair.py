"""`pair`: a plain `.tflite` and a `sentencepiece.model`, side by side in a directory.

Apps that load these run the first signature, put id 2 before a text and 1 after it, and pad with 0.
"""

from __future__ import annotations

from pathlib import Path

from edge_embed.errors import ConversionError
from edge_embed.model_file.file import ModelFile
from edge_embed_convert.containers.contents import graph_of, licence_files
from edge_embed_convert.containers.names import BOS, EOS, PAD, PAIR_TOKENIZER
from edge_embed_convert.containers.readback import Reader
from edge_embed_convert.containers.sentencepiece import require_sentencepiece, with_special_tokens

READER = Reader("edge_embed_convert.containers.readers.pair", "ai_edge_litert", "ai-edge-litert")


def check(model: ModelFile) -> None:
    """Refuses a file that the readers of a pair would tokenize wrongly.

    Raises:
        ConversionError: If its tokenizer is no SentencePiece model or has other ids around a text.
    """
    require_sentencepiece(model, "pair", "a SentencePiece tokenizer, which its readers run")
    record = model.manifest.tokenizer
    found = (record.prefix_ids, record.suffix_ids, record.pad_id)
    if found != ([BOS], [EOS], PAD):
        raise ConversionError(
            "apps that load a pair put fixed ids around each text, and this model needs other ids",
            got=f"{found[0]} before, {found[1]} after, padded with {found[2]}",
            expected=f"[{BOS}] before, [{EOS}] after, padded with {PAD}, as in EmbeddingGemma",
            fix="use --to task or --to litertlm, which name the ids in the file",
        )


def write(model: ModelFile, buckets: list[int], target: Path) -> None:
    """Writes the directory with the first of `buckets`, the only length that its reader runs."""
    target.mkdir()
    manifest = model.manifest
    (target / f"{manifest.name}.{manifest.recipe.name}.tflite").write_bytes(graph_of(model, buckets[0]))
    (target / PAIR_TOKENIZER).write_bytes(with_special_tokens(model))
    for name, data in licence_files(model).items():
        (target / name).write_bytes(data)
