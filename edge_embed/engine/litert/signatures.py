"""Whether a graph is the one that a manifest describes."""

from __future__ import annotations

from collections.abc import Mapping

from edge_embed.engine.litert.flatbuffer import Signature
from edge_embed.errors import ModelFileError
from edge_embed.model_file.manifest import Manifest
from edge_embed.names import INPUT_NAME, OUTPUT_NAME, signature_name


def check_signatures(found: Mapping[str, Signature], manifest: Manifest) -> None:
    """Checks that a graph has the signatures and the shapes that a manifest describes.

    Raises:
        ModelFileError: If it has not.
    """
    for length in manifest.buckets:
        name = signature_name(length)
        got = found.get(name)
        if got is None or (list(got.inputs), list(got.outputs)) != ([INPUT_NAME], [OUTPUT_NAME]):
            raise ModelFileError(
                f"the graph's signature {name} is not what the manifest describes",
                got=str(got or f"none among {', '.join(found) or 'no signatures'}"),
                expected=f"an input {INPUT_NAME} and an output {OUTPUT_NAME}",
                fix="convert the model again",
            )
        tensors = got.inputs[INPUT_NAME], got.outputs[OUTPUT_NAME]
        expected = ("int32", [1, length]), ("float32", [1, manifest.dimension])
        if tensors != expected:
            raise ModelFileError(
                f"the signature {name} does not have the shape that the manifest describes",
                got=str(tensors),
                expected=str(expected),
                fix="convert the model again",
            )
