"""Quantize: a recipe applied to the float32 flatbuffer. ai-edge-quantizer does the arithmetic.

The weights of a calibrated scheme were rounded to their grid before (see calibrate/rounding.py), and the
largest weight of each row or block determines that grid again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_embed.errors import RecipeError
from edge_embed_convert.graph.rewrite import EmbeddingModel
from edge_embed_convert.graph.weights import Projections
from edge_embed_convert.recipes.grammar import ALGORITHMS, Recipe, Scheme
from edge_embed_convert.recipes.placement import scheme_of
from edge_embed_convert.silence import silenced


def quantize(float_graph: Path, recipe: Recipe, model: EmbeddingModel, projections: Projections) -> bytes:
    """Returns the flatbuffer with the recipe applied.

    Args:
        float_graph: The float32 flatbuffer.
        recipe: One scheme for each group, and for single projections.
        model: The graph in PyTorch.
        projections: Where its projections are in the flatbuffer.

    Raises:
        RecipeError: If a scheme cannot be applied to this model, for instance a block size that does
            not divide a weight's rows.
    """
    rules = _rules(recipe, _names_by_scheme(recipe, model, projections))
    if not rules:
        return float_graph.read_bytes()
    try:
        with silenced():
            from ai_edge_quantizer import quantizer  # two seconds, and fp32 does not need it

            result = quantizer.Quantizer(str(float_graph), quantization_recipe=rules).quantize()
    except (ValueError, NotImplementedError) as error:
        raise RecipeError(
            f"the recipe {recipe.name} cannot be applied to this model",
            got=str(error).splitlines()[0],
            fix="use a per-channel recipe such as int8",
        ) from error
    return bytes(result.quantized_model)


def _names_by_scheme(
    recipe: Recipe, model: EmbeddingModel, projections: Projections
) -> dict[Scheme, list[str]]:
    """Returns the names of what operators give, by the scheme of their weights."""
    found: dict[Scheme, list[str]] = {}
    for path, names in projections.names.items():
        found.setdefault(scheme_of(model, path, recipe), []).extend(names)
    return found


def _rules(recipe: Recipe, names: Mapping[Scheme, Sequence[str]]) -> list[dict[str, Any]]:
    rules = [_rule(_pattern(every), "FULLY_CONNECTED", scheme) for scheme, every in names.items()]
    rules.append(_rule(".*", "EMBEDDING_LOOKUP", recipe.embedding))
    return [rule for rule in rules if rule]


def _pattern(names: Sequence[str]) -> str:
    """Returns the pattern that matches exactly these names."""
    return rf"^({'|'.join(sorted({re.escape(name) for name in names}))});?$"


def _rule(pattern: str, operation: str, scheme: Scheme) -> dict[str, Any]:
    """Returns one entry of ai-edge-quantizer's recipe list, empty for float32."""
    if scheme.bits == 32:
        return {}
    if scheme.bits == 16:
        weights: dict[str, Any] = {"num_bits": 16, "dtype": "FLOAT"}
        algorithm, precision = "float_casting", "FLOAT"
    else:
        granularity = f"BLOCKWISE_{scheme.block}" if scheme.block else "CHANNELWISE"
        # int8 per block was split into two planes of int4: see planes.py.
        bits = 4 if scheme.block else scheme.bits
        weights = {"num_bits": bits, "symmetric": True, "granularity": granularity, "dtype": "INT"}
        algorithm, precision = ALGORITHMS[scheme.algorithm].quantizer, "INTEGER"
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
