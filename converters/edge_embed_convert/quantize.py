"""Quantize: a recipe applied to the float32 flatbuffer. ai-edge-quantizer does the arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_embed.errors import RecipeError
from edge_embed_convert.recipes import Recipe, Scheme

GROUP_PATTERNS = {
    "attention": r".*Linear_(qkv|output)\b.*",
    "feed_forward": r".*Linear_(gate_up|up|down)\b.*",
    "projection": r".*Head_head/.*Linear_\d+\b.*",
}
"""Which FULLY_CONNECTED belongs to which group, by the module path that export writes into its name."""


def quantize(float_graph: Path, recipe: Recipe) -> bytes:
    """Returns the flatbuffer with the recipe applied.

    Args:
        float_graph: What `export.export` wrote.
        recipe: One scheme for each group.

    Raises:
        RecipeError: If a scheme cannot be applied to this model, for instance a block size that does
            not divide a weight's rows.
    """
    rules = _rules(recipe)
    if not rules:
        return float_graph.read_bytes()
    from ai_edge_quantizer import quantizer  # noqa: PLC0415 - two seconds, and fp32 does not need it

    worker = quantizer.Quantizer(str(float_graph), quantization_recipe=rules)
    try:
        result = worker.quantize()
    except (ValueError, NotImplementedError) as error:
        raise RecipeError(
            f"the recipe {recipe.name} cannot be applied to this model",
            got=str(error).splitlines()[0],
            fix="use a per-channel recipe such as int8",
        ) from error
    return bytes(result.quantized_model)


def _rules(recipe: Recipe) -> list[dict[str, Any]]:
    rules = [_rule(pattern, "FULLY_CONNECTED", getattr(recipe, group)) for group, pattern in GROUP_PATTERNS.items()]
    rules.append(_rule(".*", "EMBEDDING_LOOKUP", recipe.embedding))
    return [rule for rule in rules if rule]


def _rule(pattern: str, operation: str, scheme: Scheme) -> dict[str, Any]:
    """Returns one entry of ai-edge-quantizer's recipe list, empty for float32."""
    if scheme.bits == 32:
        return {}
    if scheme.bits == 16:
        weights: dict[str, Any] = {"num_bits": 16, "dtype": "FLOAT"}
        algorithm, precision = "float_casting", "FLOAT"
    else:
        granularity = f"BLOCKWISE_{scheme.block}" if scheme.block else "CHANNELWISE"
        weights = {"num_bits": scheme.bits, "symmetric": True, "granularity": granularity, "dtype": "INT"}
        algorithm, precision = "min_max_uniform_quantize", "INTEGER"
    return {
        "regex": pattern,
        "operation": operation,
        "algorithm_key": algorithm,
        "op_config": {
            "weight_tensor_config": weights,
            "compute_precision": precision,
            "explicit_dequantize": precision == "FLOAT",
            "skip_checks": scheme.bits == 8 and scheme.block > 0,
            "min_weight_elements": 0,
        },
    }
