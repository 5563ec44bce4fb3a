"""Quantize: a recipe applied to the float32 flatbuffer. ai-edge-quantizer does the arithmetic.

Weights that a calibrated scheme has rounded lie on their grid by now (see calibrate/rounding.py), and the
largest weight of each row or block says which.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_embed.errors import RecipeError
from edge_embed_convert.families import Family
from edge_embed_convert.quiet import quiet
from edge_embed_convert.recipes.grammar import CALIBRATED, GROUPS, MIN_MAX, Recipe, Scheme

ALGORITHM_KEYS = {
    MIN_MAX: "min_max_uniform_quantize",
    CALIBRATED: "min_max_uniform_quantize",
    "octav": "OCTAV",
    "mse": "MSE",
}
"""ai-edge-quantizer's names for what the grammar spells."""


Operators = Mapping[str, Sequence[str]]
"""Names of what a projection's operators give, by the place that the grammar spells."""


def _pattern_at(place: str, operators: Operators) -> str:
    """Returns the pattern of one projection's FULLY_CONNECTED in every signature."""
    names = {re.escape(name) for name in operators.get(place, ())}
    return rf"^({'|'.join(sorted(names))});?$"


def _pattern(group: str, family: Family) -> str:
    """Returns the pattern of a group's FULLY_CONNECTED, by the module path in its tensor's name."""
    if group == "projection":
        return r".*Head_head/.*"
    names = "|".join(name for name, of in family.projections.items() if of.group == group)
    return rf".*encoder/.*_({names})\b.*"


def quantize(float_graph: Path, recipe: Recipe, family: Family, operators: Operators | None = None) -> bytes:
    """Returns the flatbuffer with the recipe applied.

    Args:
        float_graph: What `export.export` wrote.
        recipe: One scheme for each group.
        family: The family of the encoder.
        operators: What `patch.operators_of` found, for a recipe with schemes for single projections.

    Raises:
        RecipeError: If a scheme cannot be applied to this model, for instance a block size that does
            not divide a weight's rows.
    """
    rules = _rules(recipe, family, operators or {})
    if not rules:
        return float_graph.read_bytes()
    try:
        with quiet():
            from ai_edge_quantizer import quantizer  # two seconds, and fp32 does not need it

            result = quantizer.Quantizer(str(float_graph), quantization_recipe=rules).quantize()
    except (ValueError, NotImplementedError) as error:
        raise RecipeError(
            f"the recipe {recipe.name} cannot be applied to this model",
            got=str(error).splitlines()[0],
            fix="use a per-channel recipe such as int8",
        ) from error
    return bytes(result.quantized_model)


def _rules(recipe: Recipe, family: Family, operators: Operators) -> list[dict[str, Any]]:
    groups = list(GROUPS.values())[1:]
    rules = [_rule(_pattern(group, family), "FULLY_CONNECTED", getattr(recipe, group)) for group in groups]
    rules.append(_rule(".*", "EMBEDDING_LOOKUP", recipe.embedding))
    # The last rule that fits is the one that counts.
    for place, scheme in recipe.overrides:
        pattern = _pattern_at(place, operators)
        rules.append(_rule(pattern, "FULLY_CONNECTED", scheme) or _float(pattern))
    return [rule for rule in rules if rule]


def _float(pattern: str) -> dict[str, Any]:
    """Returns the rule that keeps one projection in float32, whatever its group is."""
    return {"regex": pattern, "operation": "FULLY_CONNECTED", "algorithm_key": "no_quantize"}


def _rule(pattern: str, operation: str, scheme: Scheme) -> dict[str, Any]:
    """Returns one entry of ai-edge-quantizer's recipe list, empty for float32."""
    if scheme.bits == 32:
        return {}
    if scheme.bits == 16:
        weights: dict[str, Any] = {"num_bits": 16, "dtype": "FLOAT"}
        algorithm, precision = "float_casting", "FLOAT"
    else:
        granularity = f"BLOCKWISE_{scheme.block}" if scheme.block else "CHANNELWISE"
        # int8 per block has been split into two planes of int4 by now: see planes.py.
        bits = 4 if scheme.block else scheme.bits
        weights = {"num_bits": bits, "symmetric": True, "granularity": granularity, "dtype": "INT"}
        algorithm, precision = ALGORITHM_KEYS[scheme.algorithm], "INTEGER"
    return {
        "regex": pattern,
        "operation": operation,
        "algorithm_key": algorithm,
        "op_config": {
            "weight_tensor_config": weights,
            "compute_precision": precision,
            "explicit_dequantize": precision == "FLOAT",
            "skip_checks": False,
            "min_weight_elements": 0,
        },
    }
