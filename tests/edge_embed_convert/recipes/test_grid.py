"""Weights that lie on Q4_0's grid stay on it; others are left as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_embed import Embedder
from edge_embed.engine.litert.delegate import partitions
from edge_embed_convert.gate.probe_texts import SENTENCES
from edge_embed_convert.pipeline import convert
from edge_embed_convert.recipes.grammar import Recipe, Scheme
from edge_embed_convert.recipes.grid import OnGrid, keeps_grid, lies_on_grid
from edge_embed_convert.recipes.planes import split_planes
from edge_embed_convert.source.weights import linear


def q4_0(weight: torch.Tensor) -> torch.Tensor:
    """Returns a weight as llama.cpp stores and reads it."""
    blocks = weight.reshape(weight.shape[0], -1, 32)
    largest = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    unit = (largest / -8).half().float()
    codes = torch.where(unit == 0, 0.0, (blocks / torch.where(unit == 0, 1.0, unit)).round().clamp(-8, 7))
    return (codes * unit).reshape(weight.shape)


@given(st.integers(0, 10_000), st.floats(1e-3, 10.0), st.sampled_from([1.0, 0.125, 256 / 257]))
@settings(max_examples=30, deadline=None)
def test_the_grid_is_found_and_kept(seed: int, size: float, factor: float) -> None:
    weight = torch.randn(24, 96, generator=torch.Generator().manual_seed(seed)) * size
    kept = q4_0(weight) * factor
    assert lies_on_grid(kept)
    assert not lies_on_grid(weight)
    assert not lies_on_grid(kept[:, :80])
    module, x = OnGrid(linear(kept)), torch.randn(2, 5, 96)
    units = module.unit[..., None]
    codes = module.grid.weight.reshape(24, 3, 32) / torch.where(units == 0, 1.0, units)
    assert float((codes - codes.round()).abs().max()) < 0.01
    assert -8 <= float(codes.round().min()) <= float(codes.round().max()) <= 7
    wanted = x @ kept.T
    assert float((module(x) - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


def test_a_few_blocks_may_lie_elsewhere() -> None:
    weight = q4_0(torch.randn(64, 64))
    weight[3, :32] = torch.randn(32)
    assert lies_on_grid(weight)
    module, x = OnGrid(linear(weight)), torch.randn(4, 64)
    assert torch.allclose(module(x), x @ weight.T, atol=1e-4)
    weight[:4] = torch.randn(4, 64)
    assert not lies_on_grid(weight)


def test_zeros_are_no_trouble() -> None:
    module = OnGrid(linear(torch.zeros(8, 32)))
    assert torch.equal(module(torch.ones(1, 32)), torch.zeros(1, 8))


@pytest.mark.parametrize("scheme", ["4b32.octav", "4", "8b32", "8"])
def test_other_schemes_do_not_keep_it(scheme: str) -> None:
    assert not keeps_grid(Scheme.parse(scheme))
    assert keeps_grid(Scheme.parse("4b32"))


def test_weights_elsewhere_are_not_split(ours: Any, bert_checkpoint: Path) -> None:
    model = ours.load(bert_checkpoint)
    split_planes(model, Recipe.parse("int4-block32"))
    assert not any(isinstance(module, OnGrid) for module in model.modules())


def test_weights_that_were_trained_for_a_recipe_are_rounded_as_in_training(
    ours: Any, write_tiny_bert: Callable[..., Path], rewrite_tensors: Any, tmp_path: Path
) -> None:
    directory = write_tiny_bert(tmp_path / "bert", num_hidden_layers=1)
    name = "encoder.layer.0.intermediate.dense.weight"
    rewrite_tensors(directory, lambda tensors: tensors.update({name: q4_0(tensors[name])}))
    for keep_grids, count in ((False, 0), (True, 1)):
        model = ours.load(directory)
        split_planes(model, Recipe.parse("int4-block32"), keep_grids=keep_grids)
        assert sum(isinstance(module, OnGrid) for module in model.modules()) == count


def test_a_file_keeps_the_grid(
    write_tiny_bert: Callable[..., Path], rewrite_tensors: Any, tmp_path: Path
) -> None:
    directory = write_tiny_bert(tmp_path / "bert", num_hidden_layers=1)
    buckets, recipe = [16, 64], "int4-block32"

    def cosines(name: str, keep: Callable[[torch.Tensor], torch.Tensor]) -> float:
        def change(tensors: dict[str, torch.Tensor]) -> None:
            for key, weight in tensors.items():
                if weight.dim() == 2 and "position" not in key and "token_type" not in key:
                    tensors[key] = keep(weight)

        rewrite_tensors(directory, change)
        made = convert(directory, tmp_path / f"{name}.tflite", recipe=recipe, buckets=buckets, num_threads=1)
        assert {partitions(made.path, length).partitions for length in buckets} == {1}
        return made.manifest.parity.cosine_mean

    plain = cosines("plain", lambda weight: weight)
    assert cosines("grid", q4_0) > 1 - (1 - plain) / 10
    with Embedder(tmp_path / "grid.tflite") as model:
        assert np.isfinite(model.encode(SENTENCES[:3])).all()
