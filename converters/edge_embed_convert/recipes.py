"""Recipes: how each group of weights is stored, as frozen values under one grammar.

A recipe gives one scheme to each of four groups of weights:

    e  the token embedding table
    a  attention: the query/key/value and output projections
    f  feed-forward: the up, gate and down projections
    p  projection: the Dense modules after pooling

A scheme is a number of bits, with the block size where scales are per block and not per channel:

    32      float32
    16      float16, computed in float32
    8       int8, one scale per output channel
    4       int4, one scale per output channel
    8b32    about int8, one scale per 32 weights, in two planes of int4 (see planes.py); not for e
    4b32    int4, one scale per 32 weights

So `e4_a8_f4_p4` stores the table, the feed-forward and the projection in int4 and attention in int8.
Groups may come in any order; all four must be named. Norm gains and biases stay in float32 always.
Activations are quantized to int8 while running where the weights are integers, row by row.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from edge_embed._manifest import RecipeRecord
from edge_embed.errors import RecipeError


@dataclass(frozen=True)
class Scheme:
    """How one group of weights is stored.

    Attributes:
        bits: 32, 16, 8 or 4.
        block: Weights per scale, or 0 for one scale per output channel. Only for integers.
    """

    bits: int
    block: int = 0

    def __str__(self) -> str:
        return f"{self.bits}b{self.block}" if self.block else str(self.bits)

    @property
    def integer(self) -> bool:
        """Whether the weights are stored as integers with scales."""
        return self.bits <= 8

    @classmethod
    def parse(cls, text: str) -> Scheme:
        """Reads a scheme as the grammar spells it.

        Raises:
            RecipeError: If it is none of `SCHEMES`.
        """
        if text not in SCHEMES:
            raise RecipeError("unknown scheme", got=repr(text), expected=" or ".join(SCHEMES))
        bits, _, block = text.partition("b")
        return cls(int(bits), int(block or 0))


SCHEMES = ("32", "16", "8", "4", "8b32", "4b32")

GROUPS = {"e": "embedding", "a": "attention", "f": "feed_forward", "p": "projection"}


@dataclass(frozen=True)
class Thresholds:
    """What the parity gate demands of a file, measured against the fp32 source over the probes.

    Attributes:
        cosine_mean: Least mean cosine.
        cosine_min: Least cosine of any probe.
        neighbours: Least mean overlap of nearest neighbours.
        norm_error_max: Greatest deviation of a vector's length, relative to the source's.
    """

    cosine_mean: float
    cosine_min: float
    neighbours: float
    norm_error_max: float = 1e-3

    def as_dict(self) -> dict[str, float]:
        """Returns the thresholds by metric name."""
        return asdict(self)


@dataclass(frozen=True)
class Recipe:
    """One scheme for each group of weights.

    Attributes:
        name: A known name, or the recipe's own spelling.
    """

    name: str
    embedding: Scheme
    attention: Scheme
    feed_forward: Scheme
    projection: Scheme

    @property
    def spec(self) -> str:
        """The recipe as the grammar spells it."""
        return "_".join(f"{letter}{getattr(self, group)}" for letter, group in GROUPS.items())

    @property
    def thresholds(self) -> Thresholds:
        """The gate's demands, by the coarsest scheme in the recipe."""
        coarsest = min(
            (getattr(self, f.name) for f in fields(self) if f.name != "name"),
            key=lambda s: (s.bits, s.block),  # no block is a scale for a whole channel, the coarsest
        )
        return THRESHOLDS[str(coarsest)]

    def record(self) -> RecipeRecord:
        """Returns the recipe in full, for the manifest."""
        groups: dict[str, dict[str, Any]] = {group: asdict(getattr(self, group)) for group in GROUPS.values()}
        return RecipeRecord(name=self.name, spec=self.spec, groups=groups)

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """Returns the recipe of a known name or of a spelling such as `e4_a8_f4_p4`.

        Raises:
            RecipeError: If it is neither, with the names that are known.
        """
        spec = RECIPES.get(text, text)
        parts = re.findall(r"([eafp])(\d+(?:b\d+)?)(?:_|$)", spec)
        letters = [letter for letter, _ in parts]
        spelled = "_".join(f"{letter}{scheme}" for letter, scheme in parts)
        if sorted(letters) != sorted(GROUPS) or spelled != spec:
            raise RecipeError(
                "unknown recipe",
                got=repr(text),
                expected=f"{', '.join(RECIPES)}, or a spelling such as e4_a8_f4_p4",
            )
        schemes = {GROUPS[letter]: Scheme.parse(scheme) for letter, scheme in parts}
        if str(schemes["embedding"]) == "8b32":
            raise RecipeError(
                "the embedding table cannot be int8 per block",
                got=repr(text),
                expected="e8: LiteRT's lookup has no such kernel, and a row of its own has one scale already",
            )
        return cls(name=text, **schemes)


def _uniform(scheme: str) -> str:
    return "_".join(f"{letter}{scheme}" for letter in GROUPS)


RECIPES = {
    "fp32": _uniform("32"),
    "fp16": _uniform("16"),
    "int8": _uniform("8"),
    "int4": _uniform("4"),
    "mixed": "e4_a8_f4_p4",
    "int8-block32": "e8_a8b32_f8b32_p8b32",
    "int4-block32": _uniform("4b32"),
}
"""Known names and their spellings. `mixed` is the per-channel scheme EmbeddingGemma was published with
(arXiv 2509.20354, table of quantized checkpoints)."""

THRESHOLDS = {
    "32": Thresholds(cosine_mean=0.99999, cosine_min=0.9999, neighbours=0.98),
    "16": Thresholds(cosine_mean=0.9999, cosine_min=0.999, neighbours=0.97),
    "8b32": Thresholds(cosine_mean=0.99, cosine_min=0.97, neighbours=0.85),
    "8": Thresholds(cosine_mean=0.99, cosine_min=0.96, neighbours=0.85),
    "4b32": Thresholds(cosine_mean=0.92, cosine_min=0.70, neighbours=0.60),
    "4": Thresholds(cosine_mean=0.80, cosine_min=0.45, neighbours=0.50),
}
"""What the gate demands, by the coarsest scheme of a recipe."""
