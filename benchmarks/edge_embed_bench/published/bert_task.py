"""Why `edge_embed export` writes no BERT model as a `.task`: what MediaPipe's own WordPiece makes of texts.

    python -m edge_embed_bench.published.bert_task MODEL --bucket L --texts NAME=FILE … --output REPORT

MODEL is a file of the BERT family. Its graph gets two more inputs, which nothing reads, and the metadata that
TextEmbedder wants: then it takes the file. Each text is embedded by both, and a cosine below 0.9999 counts as
another vector. FILE is a .tsv of pairs or a .jsonl with the field `text`. Needs the extra `containers`.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import shlex
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed import Embedder
from edge_embed.model_file.file import ModelFile
from edge_embed.report_files import write_file
from edge_embed_bench.files import without_directories
from edge_embed_bench.records.machine import describe_machine
from edge_embed_convert.containers.contents import graph_of
from edge_embed_convert.containers.names import LEAST_COSINE
from edge_embed_convert.containers.readback import run
from edge_embed_convert.containers.task import READER
from edge_embed_convert.graph.passes.compact import pack

INPUTS = ("ids", "mask", "segment_ids")
"""What TextEmbedder calls the inputs of a BERT model."""

VOCABULARY = "vocab.txt"

MOST = 500
"""Texts of a kind."""


def write_task(model: ModelFile, bucket: int, target: Path) -> None:
    """Writes a model file's graph of one length as TextEmbedder takes a BERT model.

    Args:
        model: The file.
        bucket: The length.
        target: The `.tflite` to write.
    """
    from ai_edge_litert.tools import flatbuffer_utils as utils

    graph: Any = utils.read_model_from_bytearray(bytearray(graph_of(model, bucket)))
    signature = graph.signatureDefs[0]
    subgraph = graph.subgraphs[signature.subgraphIndex]
    graph.subgraphs, signature.subgraphIndex = [subgraph], 0
    ids = subgraph.tensors[int(subgraph.inputs[0])]
    ids.name = INPUTS[0].encode()
    for name in INPUTS[1:]:
        tensor = copy.copy(ids)
        tensor.name, tensor.buffer = name.encode(), 0
        subgraph.tensors.append(tensor)
        subgraph.inputs = [*map(int, subgraph.inputs), len(subgraph.tensors) - 1]
        entry = utils.schema_fb.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), len(subgraph.tensors) - 1
        signature.inputs.append(entry)
    buffer = utils.schema_fb.BufferT()
    buffer.data = np.frombuffer(_metadata(), dtype=np.uint8)
    graph.buffers = [*graph.buffers, buffer]
    named = utils.schema_fb.MetadataT()
    named.name, named.buffer = b"TFLITE_METADATA", len(graph.buffers) - 1
    graph.metadata, graph.metadataBuffer = [named], None
    target.write_bytes(pack(graph))
    vocabulary = json.loads(model.read(model.manifest.tokenizer.file))["model"]["vocab"]
    with zipfile.ZipFile(target, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(VOCABULARY, "\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n")


def _metadata() -> bytes:
    import flatbuffers
    from mediapipe.tasks.metadata import metadata_schema_py_generated as schema

    def tensor(name: str) -> Any:
        made = schema.TensorMetadataT()
        made.name = name
        return made

    file, options, unit = schema.AssociatedFileT(), schema.BertTokenizerOptionsT(), schema.ProcessUnitT()
    file.name, file.type = VOCABULARY, schema.AssociatedFileType.VOCABULARY
    options.vocabFile = [file]
    unit.optionsType, unit.options = schema.ProcessUnitOptions.BertTokenizerOptions, options
    graph = schema.SubGraphMetadataT()
    graph.inputTensorMetadata = list(map(tensor, INPUTS))
    graph.outputTensorMetadata = [tensor("embedding")]
    graph.inputProcessUnits = [unit]
    whole = schema.ModelMetadataT()
    whole.name, whole.subgraphMetadata, whole.minParserVersion = "embedder", [graph], "1.1.0"
    builder = flatbuffers.Builder(0)
    builder.Finish(whole.Pack(builder), file_identifier=b"M001")
    return bytes(builder.Output())


def read_texts(path: Path) -> list[str]:
    """Returns the texts of a .tsv of pairs, or of a .jsonl."""
    lines = path.read_text("utf-8").splitlines()
    if path.suffix == ".tsv":
        return [text for line in lines[1:] for text in line.split("\t")[:2]]
    return [json.loads(line)["text"] for line in lines if line.strip()]


def cosines(model: Embedder, task: Path, texts: Sequence[str]) -> list[float]:
    """Returns for each text the cosine of TextEmbedder's vector to the file's."""
    ours = model.encode(list(texts), prompt="")
    theirs = np.asarray(run(READER, task, texts))
    product = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return [float(x) for x in (ours * theirs).sum(axis=1) / product]


def main(arguments: Sequence[str] | None = None) -> None:
    """Counts and writes the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--bucket", type=int, required=True)
    parser.add_argument("--texts", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory() as scratch, Embedder(args.model, num_threads=1) as model:
        task = Path(scratch) / "bert.tflite"
        write_task(ModelFile.open(args.model), args.bucket, task)
        for name, _, path in (entry.partition("=") for entry in args.texts):
            texts = [text for text in dict.fromkeys(read_texts(Path(path))) if text.strip()]
            lengths = map(len, model.tokenize(texts))
            short = [t for t, length in zip(texts, lengths, strict=True) if length <= args.bucket]
            chosen = random.Random(0).sample(short, min(MOST, len(short)))
            found = cosines(model, task, chosen)
            other = [t for t, cosine in zip(chosen, found, strict=True) if cosine < LEAST_COSINE]
            plain = sum(text.isascii() for text in other)
            rows.append((name, len(chosen), len(other), plain, min(found)))
    words = map(without_directories, sys.argv[1:])
    command = shlex.join(["python", "-m", "edge_embed_bench.published.bert_task", *words])
    lines = [
        "# BERT in a `.task`: texts that MediaPipe's WordPiece reads otherwise",
        "",
        f"`{command}` with {READER.label} on {describe_machine()}",
        "",
        "| texts | number | another vector | of these ASCII alone | lowest cosine |",
        "|---|---|---|---|---|",
        *(f"| {name} | {n} | {other} | {plain} | {least:.2f} |" for name, n, other, plain, least in rows),
    ]
    write_file(args.output, ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
