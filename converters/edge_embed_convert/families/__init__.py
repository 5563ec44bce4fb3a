"""The encoder families and the one registry that knows them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edge_embed.errors import CheckpointError
from edge_embed.names import OUTPUT_NAME
from edge_embed_convert.families import bert, gemma3
from edge_embed_convert.layers.head import Head
from edge_embed_convert.recipes.grammar import BALANCED_INT8
from edge_embed_convert.source.checkpoint import Checkpoint
from edge_embed_convert.source.weights import Weights

__all__ = ["FAMILIES", "EmbeddingModel", "Family", "build", "family_of", "survives_float16"]


@dataclass(frozen=True)
class Family:
    """One encoder family.

    Attributes:
        name: What the manifest and the messages call it.
        model_types: The `model_type` values of `config.json` that it covers.
        prefixes: Prefixes that wrappers put before every weight name.
        unused: Patterns of weights that checkpoints carry and the encoder rightly ignores.
        default_recipe: The recipe for a user who names none; the evidence is in docs/recipes.md.
        recipes: Known names that stand for another spelling here than in general.
        expects_dense: Whether a sentence-transformers checkpoint without Dense modules is suspect.
        matryoshka: Dimensions that released models of the family are trained to be cut to.
        build: Makes the encoder from weights, checkpoint, and the pad id.
    """

    name: str
    model_types: tuple[str, ...]
    prefixes: tuple[str, ...]
    unused: tuple[str, ...]
    default_recipe: str
    recipes: Mapping[str, str]
    expects_dense: bool
    matryoshka: tuple[int, ...]
    build: Callable[[Weights, Checkpoint, int], nn.Module]


def _build_gemma3(weights: Weights, checkpoint: Checkpoint, pad_id: int) -> nn.Module:
    return gemma3.Gemma3(
        weights, gemma3.Gemma3Config.parse(checkpoint.config, checkpoint.sliding_window), pad_id
    )


def _build_bert(weights: Weights, checkpoint: Checkpoint, pad_id: int) -> nn.Module:
    return bert.Bert(weights, bert.BertConfig.parse(checkpoint.config), pad_id)


FAMILIES = (
    Family(
        name="embeddinggemma",
        model_types=gemma3.MODEL_TYPES,
        prefixes=("model.",),
        unused=gemma3.UNUSED_WEIGHTS,
        default_recipe="mixed",
        recipes={},
        expects_dense=True,
        matryoshka=(768, 512, 256, 128),
        build=_build_gemma3,
    ),
    Family(
        name="bert",
        model_types=bert.MODEL_TYPES,
        prefixes=("bert.",),
        unused=bert.UNUSED_WEIGHTS,
        default_recipe="int8",
        recipes={"int8": BALANCED_INT8},
        expects_dense=False,
        matryoshka=(),
        build=_build_bert,
    ),
)


def family_of(checkpoint: Checkpoint) -> Family:
    """Returns the family of a checkpoint by its `model_type`.

    Raises:
        CheckpointError: If no family covers it, with the list of those that are known.
    """
    model_type = checkpoint.config.get("model_type")
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    raise CheckpointError(
        "no encoder for this architecture",
        got=f"model_type = {model_type!r}",
        expected=" or ".join(repr(t) for family in FAMILIES for t in family.model_types),
        fix="convert a BERT-like or EmbeddingGemma checkpoint",
    )


class EmbeddingModel(nn.Module):
    """The whole graph of one signature: ids in, embedding out.

    Every bucket's signature shares one encoder and one head, hence every weight.
    """

    def __init__(self, encoder: nn.Module, head: Head) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Embeds int32 ids ``(1, L)``, right-padded, to ``{"embedding": (1, dimension)}``."""
        return {OUTPUT_NAME: self.head(*self.encoder(tokens))}


FLOAT16_COSINE = 0.999
"""Least cosine between a vector computed in float16 and in float32 for a graph to count as safe."""


def survives_float16(model: EmbeddingModel, sequences: Sequence[Sequence[int]]) -> bool:
    """Tells, by trying, whether a graph may run in float16 arithmetic.

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


def build(checkpoint: Checkpoint, pad_id: int) -> EmbeddingModel:
    """Builds the graph of a checkpoint from every one of its weights.

    Raises:
        CheckpointError: If a weight is missing, left over, misshapen or not finite.
    """
    family = family_of(checkpoint)
    if family.expects_dense and checkpoint.modular and not checkpoint.dense and not checkpoint.without_dense:
        raise CheckpointError(
            "the Dense modules of this EmbeddingGemma checkpoint are missing",
            got="modules.json lists none",
            expected="two Dense modules between Pooling and Normalize, as released",
            fix="restore 2_Dense and 3_Dense and their entries in modules.json, "
            "or pass --without-dense if the model was trained without them",
        )
    weights = Weights.open(checkpoint.transformer_path)
    weights.strip_prefix(*family.prefixes, unused=family.unused)
    encoder = family.build(weights, checkpoint, pad_id)
    weights.require_all_taken(family.unused)
    head = Head(checkpoint.pooling, checkpoint.head)
    model = EmbeddingModel(encoder, head).eval()
    return model.requires_grad_(False)
