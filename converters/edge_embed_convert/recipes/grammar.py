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
    2       int2, one scale per output channel; for weights that were trained for it
    8b32    about int8, one scale per 32 weights, in two planes of int4 (see planes.py); not for e
    4b32    int4, one scale per 32 weights; weights that came from Q4_0 stay as they are (see grid.py)

The algorithm that finds the scales may follow after a dot; without one the largest weight sets them:

    4.octav, 4b32.octav   clipping where rounding and clipping together err least (OCTAV, arXiv 2206.06501)
    4.mse                 the multiple of the weights' root mean square that suits a normal distribution
    4.gptq, 4b32.gptq     clipping, then rounding whose errors cancel for the calibration texts
    8.gptq                (GPTQ, arXiv 2210.17323; calibrate/gptq.py); at 8 bits the inputs of BERT and its
                          relatives are balanced before (calibrate/balance.py)

So `e4_a8_f4_p4` stores the table, the feed-forward and the projection in int4 and attention in int8.
Groups may come in any order; all four must be named. Norm gains and biases stay in float32 always.

A projection with another scheme than its group follows after a plus: its layer, a dot, its name and the
scheme, as in `e4_a8_f4_p4+0.down=8+11.output=4b32` (a Dense module after pooling: `dense.0=8`). `--recipe
auto` writes its results in this form. Where weights are integers, activations are quantized to int8 row by
row while the model runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edge_embed.errors import RecipeError
from edge_embed.model_file.manifest import RecipeRecord

MIN_MAX = "min-max"
"""The largest weight sets the scale: absmax at 2 bits, absmax / 7 at 4, absmax / 127 at 8."""

CALIBRATED = "gptq"
"""The algorithm that needs calibration texts."""

AUTO = "auto"
"""The name of a recipe that a search found, in the option and in the manifest."""


@dataclass(frozen=True)
class Scheme:
    """How one group of weights is stored.

    Attributes:
        bits: 32, 16, 8, 4 or 2.
        block: Weights per scale, or 0 for one scale per output channel. Only for integers.
        algorithm: How scales are found: one of `ALGORITHMS`.
    """

    bits: int
    block: int = 0
    algorithm: str = MIN_MAX

    def __str__(self) -> str:
        return self.storage if self.algorithm == MIN_MAX else f"{self.storage}.{self.algorithm}"

    @property
    def storage(self) -> str:
        """How the weights are stored, without the algorithm: one of `SCHEMES`."""
        return f"{self.bits}b{self.block}" if self.block else str(self.bits)

    @property
    def integer(self) -> bool:
        """Whether the weights are stored as integers with scales."""
        return self.bits <= 8

    @classmethod
    def parse(cls, text: str) -> Scheme:
        """Reads a scheme as the grammar spells it.

        Raises:
            RecipeError: If it is not in `SCHEMES`, or does not allow this algorithm.
        """
        storage, _, algorithm = text.partition(".")
        known = [*SCHEMES, *(f"{s}.{name}" for name, each in ALGORITHMS.items() for s in each.schemes)]
        if text not in known:
            raise RecipeError("unknown scheme", got=repr(text), expected=" or ".join(known))
        bits, _, block = storage.partition("b")
        return cls(int(bits), int(block or 0), algorithm or MIN_MAX)


SCHEMES = ("32", "16", "8", "4", "2", "8b32", "4b32")


@dataclass(frozen=True)
class Algorithm:
    """How the scales of integer weights are found.

    Attributes:
        schemes: The schemes that may name it after a dot.
        quantizer: What ai-edge-quantizer calls it.
        clips: Whether it clips large weights. A search simulates all such algorithms by one search for the
            best clipping.
    """

    schemes: tuple[str, ...]
    quantizer: str
    clips: bool = False


ALGORITHMS = {
    MIN_MAX: Algorithm((), "min_max_uniform_quantize"),  # meant where no algorithm is named
    "octav": Algorithm(("4", "4b32"), "OCTAV", clips=True),
    "mse": Algorithm(("4",), "MSE", clips=True),
    # Weights that are on their grid already: see recipes/quantize.py.
    CALIBRATED: Algorithm(("8", "4", "4b32"), "min_max_uniform_quantize"),
}
"""Every algorithm by its name in the grammar. At 8 bits clipping gains nothing: mean cosine of
all-MiniLM-L6-v2 0.9991 with min-max and with OCTAV, 0.9946 with MSE. With every projection of that model in
int4 per channel, ai-edge-quantizer's OSCAR, Hadamard rotation and GPTQ got 0.937, 0.942 and 0.925 beside
OCTAV's 0.937 (table in int8, other texts); the GPTQ here 0.974 beside OCTAV's 0.932 (table in float32). They
are not in the grammar: they are no better, and Hadamard adds a rotation before every product."""

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
    """One scheme for each group of weights, and for single projections where they differ.

    Attributes:
        name: A known name, or the recipe's own spelling.
        overrides: Projections that differ from their group, each as `LAYER.NAME` and its scheme.
    """

    name: str
    embedding: Scheme
    attention: Scheme
    feed_forward: Scheme
    projection: Scheme
    overrides: tuple[tuple[str, Scheme], ...] = ()

    @property
    def spec(self) -> str:
        """The recipe as the grammar spells it."""
        groups = "_".join(f"{letter}{getattr(self, group)}" for letter, group in GROUPS.items())
        return "+".join([groups, *(f"{place}={scheme}" for place, scheme in self.overrides)])

    @property
    def label(self) -> str:
        """What a file of the recipe is called: its name, unless that is a long spelling."""
        return "layered" if self.overrides and self.name == self.spec else self.name

    @property
    def schemes(self) -> tuple[Scheme, ...]:
        """Every scheme that the recipe names."""
        return (*(getattr(self, group) for group in GROUPS.values()), *(s for _, s in self.overrides))

    @property
    def calibrated(self) -> bool:
        """Whether any scheme needs calibration texts."""
        return any(scheme.algorithm == CALIBRATED for scheme in self.schemes)

    def scheme_at(self, group: str, place: str) -> Scheme:
        """Returns the scheme of the projection at a place, `LAYER.NAME`, of a group."""
        scheme: Scheme = dict(self.overrides).get(place, getattr(self, group))
        return scheme

    @property
    def thresholds(self) -> Thresholds:
        """The gate's demands, by the coarsest scheme in the recipe."""
        # Without blocks, a whole channel shares one scale, which is coarsest.
        return THRESHOLDS[min(self.schemes, key=lambda s: (s.bits, s.block)).storage]

    def record(self) -> RecipeRecord:
        """Returns the recipe in full, for the manifest."""
        groups: dict[str, dict[str, Any]] = {group: asdict(getattr(self, group)) for group in GROUPS.values()}
        groups |= {place: asdict(scheme) for place, scheme in self.overrides}
        for scheme in groups.values():
            if scheme["algorithm"] == MIN_MAX:
                del scheme["algorithm"]  # files hold only algorithms other than the default
        return RecipeRecord(name=self.name, spec=self.spec, groups=groups)

    @classmethod
    def parse(cls, text: str, names: Mapping[str, str] = {}) -> Recipe:
        """Returns the recipe of a known name or of a spelling such as `e4_a8_f4_p4`.

        Args:
            text: The name or spelling.
            names: Spellings of known names that differ from `RECIPES`: see `Family.recipes`.

        Raises:
            RecipeError: If it is neither, with the names that are known.
        """
        spec, *differing = {**RECIPES, **names}.get(text, text).split("+")
        parts = re.findall(r"([eafp])(\d+(?:b\d+)?(?:\.[a-z]+)?)(?:_|$)", spec)
        letters = [letter for letter, _ in parts]
        spelled = "_".join(f"{letter}{scheme}" for letter, scheme in parts)
        if sorted(letters) != sorted(GROUPS) or spelled != spec:
            raise RecipeError(
                "unknown recipe",
                got=repr(text),
                expected=f"{AUTO}, {', '.join(RECIPES)}, or a spelling such as e4_a8_f4_p4",
            )
        schemes = {GROUPS[letter]: Scheme.parse(scheme) for letter, scheme in parts}
        table = str(schemes["embedding"])
        if table == "8b32":
            raise RecipeError(
                "the embedding table cannot be int8 per block",
                got=repr(text),
                expected="e8: LiteRT has no such lookup, and with e8 each row already has a scale of its own",
            )
        if schemes["embedding"].algorithm == CALIBRATED:
            raise RecipeError(
                f"the embedding table cannot be rounded by {CALIBRATED}",
                got=f"e{table}",
                expected="e4.octav: rows of the table are looked up and not summed, so errors cannot cancel",
            )
        return cls(name=text, **schemes, overrides=_overrides(text, differing))


def _overrides(text: str, parts: list[str]) -> tuple[tuple[str, Scheme], ...]:
    found: dict[str, Scheme] = {}
    for part in parts:
        place, equals, scheme = part.partition("=")
        if not equals or not PLACE.fullmatch(place) or place in found:
            raise RecipeError(
                "the scheme of a single projection is not spelled correctly",
                got=f"{part!r} in {text!r}",
                expected="LAYER.NAME=SCHEME, such as 0.down=8, each once",
            )
        found[place] = Scheme.parse(scheme)
        if found[place].storage == "8b32":
            raise RecipeError(
                "int8 per block can only be used for whole groups",
                got=part,
                expected="another scheme, such as 8",
            )
    return tuple(found.items())


PLACE = re.compile(r"\d+\.[a-z_]+|dense\.\d+")
"""How a projection is named: its layer's number and its name, or `dense.` and its number in the head."""


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

BALANCED_INT8 = "e8_a8.gptq_f8.gptq_p8.gptq"
"""int8 with every projection calibrated, its inputs balanced."""

THRESHOLDS = {
    "32": Thresholds(cosine_mean=0.99999, cosine_min=0.9999, neighbours=0.98),
    "16": Thresholds(cosine_mean=0.9999, cosine_min=0.999, neighbours=0.97),
    "8b32": Thresholds(cosine_mean=0.99, cosine_min=0.97, neighbours=0.85),
    "8": Thresholds(cosine_mean=0.99, cosine_min=0.96, neighbours=0.85),
    "4b32": Thresholds(cosine_mean=0.92, cosine_min=0.70, neighbours=0.60),
    "4": Thresholds(cosine_mean=0.80, cosine_min=0.45, neighbours=0.50),
    # As at 4 bits: the demand is the same, and projections that were not trained for 2 bits miss it.
    "2": Thresholds(cosine_mean=0.80, cosine_min=0.45, neighbours=0.50),
}
"""What the gate demands, by the coarsest scheme of a recipe."""
