"""Export: one float32 flatbuffer in which every bucket is a signature and all share every weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from edge_embed.errors import CheckpointError
from edge_embed.names import INPUT_NAME, signature_name
from edge_embed_convert.graph.rewrite import EmbeddingModel
from edge_embed_convert.quiet import quiet

SMALLEST_BUCKET = 16

EXPORT_STEPS = 2
"""Steps that `export` reports beside one per signature."""


def default_buckets(max_tokens: int) -> list[int]:
    """Returns the powers of two from 16 up, and the maximum itself.

    >>> default_buckets(100)
    [16, 32, 64, 100]
    """
    lengths = [SMALLEST_BUCKET]
    while lengths[-1] < max_tokens:
        lengths.append(lengths[-1] * 2)
    return [*(n for n in lengths if n < max_tokens), max_tokens]


def check_buckets(buckets: Sequence[int], max_tokens: int) -> list[int]:
    """Returns a user's buckets in ascending order.

    Raises:
        CheckpointError: If they are empty, repeat, do not reach the model's maximum, or pass it.
    """
    ordered = sorted(buckets)
    if not ordered or ordered[0] < 4 or len(set(ordered)) < len(ordered) or ordered[-1] != max_tokens:
        raise CheckpointError(
            "the bucket list does not fit the model",
            got=", ".join(map(str, buckets)) or "nothing",
            expected=f"different lengths from 4 up, the largest {max_tokens}",
            fix="end the list with the model's maximum, or lower that with --max-tokens",
        )
    return ordered


def export(
    model: EmbeddingModel,
    buckets: Sequence[int],
    path: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Writes the float32 flatbuffer.

    The largest bucket comes first: tools that know nothing of signatures run the first subgraph, and
    there the longest is the only right one.

    Args:
        model: The graph; its parameters are shared by all signatures.
        buckets: Lengths in ascending order.
        path: Where to write.
        progress: Called with the name of each step.
    """
    with quiet():
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
        exported = converter.convert(lightweight_conversion=True, runtime_constant_folding=False)
        progress("writing the float32 graph")
        exported.export(str(path))
