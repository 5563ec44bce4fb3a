"""Quantized graphs: every group of weights is stored as the recipe says, and nothing else changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_embed.errors import ConversionError, RecipeError
from edge_embed_convert.families import FAMILIES
from edge_embed_convert.gate.storage import check_storage
from edge_embed_convert.graph.export import export
from edge_embed_convert.graph.rewrite import EmbeddingModel
from edge_embed_convert.graph.weights import find_projections, patch_weights
from edge_embed_convert.recipes import quantize as quantize_module
from edge_embed_convert.recipes.grammar import GROUPS, Recipe, Scheme
from edge_embed_convert.recipes.placement import projections
from edge_embed_convert.recipes.planes import TwoPlanes, split_planes
from edge_embed_convert.recipes.quantize import quantize

LENGTH = 16


Quantize = Callable[[Recipe], bytes]


def _exported(model: EmbeddingModel, path: Path) -> Quantize:
    """Exports a model; the result quantizes its graph, and checks how every weight is stored."""
    export(model, [LENGTH], path)
    found = find_projections(path, {name: layer.weight for name, layer in projections(model).items()})

    def apply(recipe: Recipe) -> bytes:
        finished = quantize(path, recipe, model, found)
        check_storage(finished, path, found, model, recipe)
        return finished

    return apply


@pytest.fixture(scope="module")
def gemma_graph(gemma_checkpoint, ours, tmp_path_factory) -> Quantize:
    return _exported(ours.load(gemma_checkpoint), tmp_path_factory.mktemp("float") / "gemma.tflite")


@pytest.fixture(scope="module")
def bert_path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("float") / "bert.tflite"


@pytest.fixture(scope="module")
def bert_model(bert_checkpoint, ours) -> EmbeddingModel:
    return ours.load(bert_checkpoint)


@pytest.fixture(scope="module")
def bert_graph(bert_model, bert_path) -> Quantize:
    return _exported(bert_model, bert_path)


def _stored(graph: bytes) -> dict[str, list[tuple[str, Any]]]:
    """Returns, for each group, the type and quantization of the constants that its operators multiply by."""
    from ai_edge_litert.tools import flatbuffer_utils as utils

    model = utils.read_model_from_bytearray(bytearray(graph))
    types = {value: name for name, value in vars(utils.TensorType).items() if isinstance(value, int)}
    operators = {value: name for name, value in vars(utils.BuiltinOperator).items() if isinstance(value, int)}
    found = defaultdict(list)
    for subgraph in model.subgraphs:
        made_by = {int(t): op for op in subgraph.operators for t in op.outputs}
        for op in subgraph.operators:
            kind = operators[model.operatorCodes[op.opcodeIndex].builtinCode]
            if kind not in ("FULLY_CONNECTED", "EMBEDDING_LOOKUP"):
                continue
            index = int(op.inputs[1])
            if index in made_by:  # float16 weights go through DEQUANTIZE
                index = int(made_by[index].inputs[0])
            tensor = subgraph.tensors[index]
            if model.buffers[tensor.buffer].data is None:
                continue
            name = subgraph.tensors[op.outputs[0]].name.decode()
            group = "embedding" if kind == "EMBEDDING_LOOKUP" else _group(name)
            found[group].append((types[tensor.type], tensor))
    return found


def _group(name: str) -> str:
    if "Head" in name:
        return "projection"
    return next(
        of.group
        for family in FAMILIES
        for part, of in family.projections.items()
        if f"_{part};" in name + ";"
    )


def _type(scheme: Scheme) -> str:
    return {32: "FLOAT32", 16: "FLOAT16", 8: "INT8", 4: "INT4", 2: "INT2"}[scheme.bits]


COUNTS = {"embedding": 1, "attention": 4 * 4, "feed_forward": 3 * 4, "projection": 2}
"""Of the tiny Gemma: halves of queries and keys, values, output; gate, up, down; four layers; two Dense."""


@pytest.mark.parametrize(
    "name",
    [
        "fp32",
        "fp16",
        "int8",
        "int4",
        "mixed",
        "int4-block32",
        "e8_a4_f16_p32",
        "e16_a8_f4b32_p8",
        "e2_a4_f2_p2",
    ],
)
def test_each_group_is_stored_as_the_recipe_says(name: str, gemma_graph: Quantize) -> None:
    recipe = Recipe.parse(name)
    stored = _stored(gemma_graph(recipe))
    assert {group: len(tensors) for group, tensors in stored.items()} == COUNTS
    for group in GROUPS.values():
        scheme = getattr(recipe, group)
        for kind, tensor in stored[group]:
            assert kind == _type(scheme), group
            if scheme.integer:
                _check_scales(tensor, scheme)


def _check_scales(tensor: Any, scheme: Scheme) -> None:
    rows = int(tensor.shape[0])
    if scheme.block:
        assert tensor.quantization.details.blockSize == scheme.block
    else:
        assert len(tensor.quantization.scale) == rows
        assert not np.any(tensor.quantization.zeroPoint)  # symmetric


@pytest.mark.parametrize("name", ["int8", "e4_a8_f4_p8"])
def test_bert_groups(name: str, bert_graph: Quantize) -> None:
    recipe = Recipe.parse(name)
    stored = _stored(bert_graph(recipe))
    assert {group: len(tensors) for group, tensors in stored.items()} == {
        "embedding": 1,
        "attention": 8,
        "feed_forward": 4,
    }
    for group, tensors in stored.items():
        assert {kind for kind, _ in tensors} == {_type(getattr(recipe, group))}


def test_fp32_is_the_graph_itself(bert_graph: Quantize, bert_path: Path) -> None:
    assert bert_graph(Recipe.parse("fp32")) == bert_path.read_bytes()


def test_sizes_shrink_with_the_bits(gemma_graph: Quantize) -> None:
    sizes = [len(gemma_graph(Recipe.parse(name))) for name in ("int4", "mixed", "int8", "fp16", "fp32")]
    assert sizes == sorted(sizes)
    assert sizes[2] < 0.6 * sizes[4]


@pytest.mark.parametrize("name", ["int4-block32", "int8-block32", "e4_a4b32_f4_p4"])
def test_rows_that_blocks_do_not_divide(
    name: str, write_gemma: Callable[..., Path], ours: Any, tmp_path: Path
) -> None:
    """80 is two and a half blocks of 32."""
    model = ours.load(write_gemma(tmp_path / "gemma", hidden_size=80, num_hidden_layers=1))
    recipe = Recipe.parse(name)

    def apply() -> None:
        split_planes(model, recipe)
        _exported(model, tmp_path / "graph.tflite")(recipe)

    with pytest.raises(RecipeError) as caught:
        apply()
    message = str(caught.value)
    assert name in message
    assert "per-channel recipe such as int8" in message


def test_int8_blocks_are_two_planes(
    ours: Any, gemma_checkpoint: Path, random_ids: Callable[[int], list[int]]
) -> None:
    """The planes of every projection sum to its weights, so that nothing is lost before quantizing."""
    model = ours.load(gemma_checkpoint)
    ids = random_ids(30)
    before = ours.run(model, ids)
    layers = {path: m.weight.clone() for path, m in model.named_modules() if type(m).__name__ == "Linear"}
    split_planes(model, Recipe.parse("int8-block32"))
    planes = {path: m for path, m in model.named_modules() if isinstance(m, TwoPlanes)}
    assert set(planes) == set(layers)
    for path, plane in planes.items():
        assert float((plane.coarse.weight + plane.fine.weight - layers[path]).abs().max()) <= 1e-7
        assert float(plane.fine.weight.abs().max()) < 0.2 * float(layers[path].abs().max())
    assert np.abs(ours.run(model, ids) - before).max() <= 1e-6


def test_only_the_groups_asked_for_are_split(ours: Any, gemma_checkpoint: Path) -> None:
    model = ours.load(gemma_checkpoint)
    split_planes(model, Recipe.parse("e8_a8b32_f8_p8"))
    split = {path.rsplit(".", 1)[1] for path, m in model.named_modules() if isinstance(m, TwoPlanes)}
    assert split == {"qk_first", "qk_second", "value", "output"}


@pytest.mark.parametrize("scheme", ["4.octav", "4b32.octav", "4.mse"])
def test_scales_are_found_otherwise(scheme: str, bert_graph: Quantize) -> None:
    spell = "_".join(f"{letter}{{}}" for letter in "eafp")
    plain = bert_graph(Recipe.parse(spell.replace("{}", scheme.partition(".")[0])))
    clipped = bert_graph(Recipe.parse(spell.replace("{}", scheme)))
    assert len(clipped) == len(plain)
    assert clipped != plain
    before, after = _stored(plain), _stored(clipped)
    assert {group: [kind for kind, _ in tensors] for group, tensors in before.items()} == {
        group: [kind for kind, _ in tensors] for group, tensors in after.items()
    }
    if scheme != "4.octav":
        return  # those per block are a tensor of their own, and MSE's may exceed the largest weight's
    for group, tensors in before.items():
        for (_, largest), (_, tensor) in zip(tensors, after[group], strict=True):
            assert np.all(tensor.quantization.scale <= largest.quantization.scale * 1.0001)
            assert np.mean(tensor.quantization.scale) < 0.95 * np.mean(largest.quantization.scale)


# What the finished graph stores.


@pytest.mark.parametrize("name", ["int8", "int4-block32", "fp16"])
def test_a_projection_that_was_missed_is_named(name, bert_graph: Quantize, monkeypatch) -> None:
    real = quantize_module._pattern
    monkeypatch.setattr(
        quantize_module,
        "_pattern",
        lambda names: real([n for n in names if "Layer_1/" not in n or "_down" not in n]),
    )
    with pytest.raises(ConversionError, match=r"encoder\.layers\.1\.down: FLOAT32") as caught:
        bert_graph(Recipe.parse(name))
    assert "layers.0.down" not in str(caught.value)
    assert "nothing was written" in str(caught.value)


def test_a_table_that_was_missed_is_named(bert_graph: Quantize, monkeypatch) -> None:
    real = quantize_module._rule
    monkeypatch.setattr(
        quantize_module,
        "_rule",
        lambda pattern, operation, scheme: (
            real(pattern, operation, scheme) if operation == "FULLY_CONNECTED" else {}
        ),
    )
    with pytest.raises(ConversionError, match="the embedding table: FLOAT32"):
        bert_graph(Recipe.parse("int8"))


def test_a_coarser_scheme_than_asked_for_is_named(bert_model, bert_path, bert_graph: Quantize) -> None:
    weights = {name: layer.weight for name, layer in projections(bert_model).items()}
    found, finished = find_projections(bert_path, weights), bert_graph(Recipe.parse("int4"))
    with pytest.raises(ConversionError, match="INT4") as caught:
        check_storage(finished, bert_path, found, bert_model, Recipe.parse("e4_a4_f8_p8"))
    assert "down" in str(caught.value) or "up" in str(caught.value)
    assert "query" not in str(caught.value)


@pytest.mark.parametrize("name", ["int8", "int4", "e2_a2_f2_p2"])
def test_weights_of_another_operator_are_named(
    name: str, bert_model, bert_path, bert_graph: Quantize
) -> None:
    weights = {name: layer.weight for name, layer in projections(bert_model).items()}
    found, finished = find_projections(bert_path, weights), bert_graph(Recipe.parse(name))
    other = bert_path.with_name("other.tflite")
    other.write_bytes(bert_path.read_bytes())
    noise = torch.randn(64, 64, generator=torch.Generator().manual_seed(1))
    patch_weights(other, [("encoder.layers.0.key.weight", noise)], bert_model.get_parameter)
    with pytest.raises(ConversionError, match=r"encoder\.layers\.0\.key: the weights of another operator"):
        check_storage(finished, other, found, bert_model, Recipe.parse(name))
