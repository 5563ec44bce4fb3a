"""What the writers of containers share: the graph of one length, and the licence that must travel along."""

from __future__ import annotations

from edge_embed.engine.litert.flatbuffer import keep_only
from edge_embed.errors import ConversionError
from edge_embed.model_file.file import ModelFile
from edge_embed.names import signature_name


def choose_bucket(model: ModelFile, asked: int | None) -> int:
    """Returns the length that a reader of one length runs: the one asked for, or the longest.

    Raises:
        ConversionError: If the file has no such length.
    """
    buckets = model.manifest.buckets
    if asked is None:
        return buckets[-1]
    if asked not in buckets:
        raise ConversionError(
            "the model file has no bucket of that length",
            got=f"--bucket {asked}",
            expected=f"one of {', '.join(map(str, buckets))}",
            fix="choose one of these, or convert again with --buckets",
        )
    return asked


def read_graph(model: ModelFile) -> bytearray:
    """Returns the flatbuffer, checked against the manifest's hash."""
    model.verify_graph()
    with model.path.open("rb") as file:
        return bytearray(file.read(model.manifest.graph.bytes))


def graph_of(model: ModelFile, bucket: int) -> bytes:
    """Returns the flatbuffer with the signature and the subgraph of one length alone."""
    graph = read_graph(model)
    keep_only(graph, signature_name(bucket))
    return bytes(graph)


def licence_files(model: ModelFile) -> dict[str, bytes]:
    """Returns the licence texts that the file carries, by name."""
    return {name: model.read(name) for name in model.manifest.licence.files}
