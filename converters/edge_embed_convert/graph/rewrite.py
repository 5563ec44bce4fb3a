"""Rewrite: a checkpoint as one PyTorch graph of token ids to an embedding, written for the delegate."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edge_embed.names import OUTPUT_NAME
from edge_embed_convert.families import Family
from edge_embed_convert.layers.head import Head
from edge_embed_convert.source.checkpoint import Checkpoint
from edge_embed_convert.source.weights import Weights


class EmbeddingModel(nn.Module):
    """The whole graph of one signature: ids in, embedding out.

    Every bucket's signature shares one encoder and one head, and so every weight.

    Args:
        encoder: What the family built.
        head: Pooling and what follows it.
        family: The encoder's family.
    """

    def __init__(self, encoder: nn.Module, head: Head, family: Family) -> None:
        super().__init__()
        self.encoder, self.head, self.family = encoder, head, family

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Embeds int32 ids ``(1, L)``, right-padded, to ``{"embedding": (1, dimension)}``."""
        return {OUTPUT_NAME: self.head(*self.encoder(tokens))}


def build(checkpoint: Checkpoint, pad_id: int) -> EmbeddingModel:
    """Builds the graph of a checkpoint from every one of its weights.

    Raises:
        CheckpointError: If a weight is missing, unused, misshapen or not finite.
    """
    family = checkpoint.family
    weights = Weights.open(checkpoint.transformer_path)
    weights.strip_prefix(*family.prefixes, unused=family.unused)
    encoder = family.build(weights, checkpoint.encoder, pad_id)
    weights.require_all_taken(family.unused)
    model = EmbeddingModel(encoder, Head(checkpoint.pooling, checkpoint.head), family).eval()
    return model.requires_grad_(False)


FLOAT16_COSINE = 0.999
"""Least cosine between a vector computed in float16 and in float32 for a graph to count as safe."""


def survives_float16(model: EmbeddingModel, sequences: Sequence[Sequence[int]]) -> bool:
    """Returns whether a graph may run in float16 arithmetic, found by running it so.

    Args:
        model: The graph, in float32.
        sequences: Token ids of some texts.

    Returns:
        Whether every vector stays finite and close to the one in float32.
    """
    if not sequences:
        return False
    half = copy.deepcopy(model).half()
    with torch.inference_mode():
        for ids in sequences:
            tokens = torch.tensor([list(ids)], dtype=torch.int32)
            exact, rounded = model(tokens)[OUTPUT_NAME], half(tokens)[OUTPUT_NAME].float()
            cosine = torch.nn.functional.cosine_similarity(exact, rounded)
            if not bool(torch.isfinite(rounded).all()) or not float(cosine) >= FLOAT16_COSINE:
                return False
    return True
