"""Storage: the finished graph stores every projection and the table as the recipe says.

The quantizer chooses operators by patterns over names, and an operator that no pattern finds stays in float32
without a word. So the finished flatbuffer is read again, and nothing here depends on that choice: an
operator is identified by its position, and its weights must resemble the ones that were exported there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_embed.errors import ConversionError
from edge_embed_convert.graph.rewrite import EmbeddingModel
from edge_embed_convert.graph.weights import Projections, StoredWeight, stored_weights
from edge_embed_convert.recipes.grammar import Recipe, Scheme
from edge_embed_convert.recipes.placement import scheme_of

TYPES = {32: "FLOAT32", 16: "FLOAT16", 8: "INT8", 4: "INT4", 2: "INT2"}
"""The schema's name for a tensor with this number of bits."""

PACKED = {"INT4": 4, "INT2": 2}
"""The bits of numbers that share a byte, the first in the lowest bits."""

ROWS = 64
"""How many rows of a weight are compared: enough to tell it from every other."""

ALIKE = {32: 0.5, 16: 0.5, 8: 0.5, 4: 0.5, 2: 0.1}
"""Least cosine between stored and exported weights, by bits. int4 with one outlier in a row keeps 0.9;
another projection of the same shape has about 0. int2 rounds whatever is below half of a row's largest weight
to 0."""


def check_storage(
    finished: bytes, exported: Path, projections: Projections, model: EmbeddingModel, recipe: Recipe
) -> None:
    """Checks a finished graph against its recipe.

    Args:
        finished: The flatbuffer, quantized and compacted.
        exported: The float32 flatbuffer that was quantized.
        projections: Where the projections are in it.
        model: The graph in PyTorch.
        recipe: What was asked for.

    Raises:
        ConversionError: If a projection or the table is stored otherwise; the message names it.
    """
    wrong: dict[str, str] = {}
    before_content = exported.read_bytes()
    compared: set[str] = set()
    pairs = zip(stored_weights(before_content), stored_weights(finished), projections.order, strict=True)
    for before, after, order in pairs:
        lookups = [weight for weight in after if weight.lookup and _is_table(weight)]
        if not lookups:
            wrong["the embedding table"] = "no lookup"
        for weight in lookups:
            _note(wrong, "the embedding table", weight, recipe.embedding, table=True)
        linear_before = [weight for weight in before if not weight.lookup]
        linear_after = [weight for weight in after if not weight.lookup]
        if len(linear_after) != len(order):
            wrong["all projections"] = f"{len(linear_after)} operators for {len(order)} projections"
            continue
        for path, source, stored in zip(order, linear_before, linear_after, strict=True):
            scheme = scheme_of(model, path, recipe)
            _note(wrong, path, stored, _planes(scheme))
            if path not in wrong and path not in compared:
                compared.add(path)
                cosine = _cosine(_values(before_content, source), _values(finished, stored))
                if cosine < ALIKE[scheme.bits]:
                    wrong[path] = "the weights of another operator"
    if wrong:
        raise ConversionError(
            f"the recipe {recipe.name} was not applied to every weight of the graph; nothing was written",
            got="; ".join(f"{name}: {found}" for name, found in list(wrong.items())[:5]),
            expected=recipe.spec,
            fix="report it with the checkpoint's config.json: the selection of operators missed one",
        )


def _planes(scheme: Scheme) -> Scheme:
    """Returns how a scheme is stored: int8 per block lies in two planes of int4."""
    return Scheme(4, scheme.block, scheme.algorithm) if scheme.block else scheme


def _is_table(weight: StoredWeight) -> bool:
    return len(weight.shape) == 2 and weight.shape[1] > 1  # one column: the scales of the rows


def _note(
    wrong: dict[str, str], name: str, stored: StoredWeight, scheme: Scheme, *, table: bool = False
) -> None:
    """Notes a weight that is not stored under a scheme."""
    # A table's scales per row are a constant of their own (see passes/row_scales.py).
    scales = stored.shape[0] if scheme.integer and not scheme.block and not table else stored.scales
    if (stored.type, stored.block, stored.scales) != (TYPES[scheme.bits], scheme.block, scales):
        per = f"a scale per {stored.block} weights" if stored.block else f"{stored.scales} scales"
        wrong[name] = f"{stored.type} with {per} instead of {scheme}"


def _cosine(exported: npt.NDArray[np.float32], stored: npt.NDArray[np.float32]) -> float:
    """Returns the cosine of two weights, 1 if one of them is zero."""
    norms = float(np.linalg.norm(exported)) * float(np.linalg.norm(stored))
    return float((exported * stored).sum()) / norms if norms else 1.0


def _values(content: bytes, weight: StoredWeight) -> npt.NDArray[np.float32]:
    """Returns the first rows of a weight; integers per channel stand for their row's direction."""
    rows, columns = min(weight.shape[0], ROWS), weight.shape[1]
    start = weight.place[0]
    if weight.type in PACKED:
        bits = PACKED[weight.type]
        packed = np.frombuffer(content, np.uint8, -(-rows * columns * bits // 8), start)
        # Each number is shifted to the top of its byte, and back with its sign.
        tops = np.stack([packed << up for up in range(8 - bits, -1, -bits)], axis=-1).reshape(-1)
        values = tops[: rows * columns].view(np.int8) >> (8 - bits)
    else:
        dtype = {"FLOAT32": "<f4", "FLOAT16": "<f2", "INT8": "i1"}[weight.type]
        values = np.frombuffer(content, dtype, rows * columns, start)
    matrix = values.astype(np.float32).reshape(rows, columns)
    unit: npt.NDArray[np.float32] = matrix / np.maximum(np.abs(matrix).max(axis=1, keepdims=True), 1e-30)
    return unit
