"""Export: one float32 flatbuffer with a signature for each bucket; all signatures share the weights."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from edge_embed.errors import CheckpointError
from edge_embed.names import INPUT_NAME, signature_name
from edge_embed_convert.graph.rewrite import EmbeddingModel
from edge_embed_convert.silence import silenced


def export_steps(buckets: Sequence[int]) -> int:
    """Returns how many steps `export` reports."""
    return len(buckets) + 2


def export(
    model: EmbeddingModel,
    buckets: Sequence[int],
    path: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Writes the float32 flatbuffer.

    The largest bucket comes first, because tools that do not know signatures run the first subgraph, and only
    the longest one is right for every text.

    Args:
        model: The graph; its parameters are shared by all signatures.
        buckets: Lengths in ascending order.
        path: The file to write.
        progress: Called with the name of each step.
    """
    with silenced():
        import litert_torch  # five seconds, and only exporting needs it

        converter = None
        for length in sorted(buckets, reverse=True):
            progress(f"signature {signature_name(length)}")
            sample = {INPUT_NAME: torch.ones(1, length, dtype=torch.int32)}
            add = litert_torch.signature if converter is None else converter.signature
            converter = add(signature_name(length), model, sample_kwargs=sample)
        if converter is None:
            raise CheckpointError("no bucket to export")
        progress("lowering every signature")
        with decomposed_once():
            exported = converter.convert(lightweight_conversion=True, runtime_constant_folding=False)
        progress("writing the float32 graph")
        exported.export(str(path))


@contextlib.contextmanager
def decomposed_once() -> Iterator[None]:
    """Leaves out the first of litert-torch's two decompositions of each graph, a third of the time.

    The second one, just before lowering, does all that the first does, so the file is the same byte by byte.
    litert-torch has this switch, and its experimental converter sets it, but `convert` does not pass it on.
    """
    from litert_torch._convert import core

    plain = core.export_torch_signature
    if "run_decompositions" in inspect.signature(plain).parameters:  # not in every version
        core.export_torch_signature = functools.partial(plain, run_decompositions=False)
    try:
        yield
    finally:
        core.export_torch_signature = plain
