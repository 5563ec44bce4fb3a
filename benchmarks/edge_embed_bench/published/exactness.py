"""How far the rewritten encoder is from the model that it was made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from edge_embed_convert.graph.rewrite import EmbeddingModel


def largest_difference(
    model: EmbeddingModel,
    expected: Callable[[Sequence[int]], Any],
    sequences: Iterable[Sequence[int]],
    pad_id: int = 0,
) -> float:
    """Returns the largest difference in any element of a unit vector, both models in float32 PyTorch.

    Args:
        model: The rewritten encoder. A text runs at its own length and padded.
        expected: Gives the source's vector of a text.
        sequences: Token ids of texts.
        pad_id: The id that pads.
    """
    import torch

    worst = 0.0
    with torch.inference_mode():
        for ids in sequences:
            wanted = expected(ids)
            for length in (len(ids), padded_length(len(ids))):
                tokens = torch.full((1, length), pad_id, dtype=torch.int32)
                tokens[0, : len(ids)] = torch.tensor(list(ids), dtype=torch.int32)
                worst = max(worst, float(np.abs(model(tokens)["embedding"][0].numpy() - wanted).max()))
    return worst


def padded_length(length: int) -> int:
    """Returns the next power of two above a length, and at least 16."""
    return max(16, 1 << length.bit_length())
