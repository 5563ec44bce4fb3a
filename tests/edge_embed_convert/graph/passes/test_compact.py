"""Compacting: the same answers bit for bit, from fewer bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_embed_convert.graph.export import export
from edge_embed_convert.graph.passes import compact as module
from edge_embed_convert.graph.passes.compact import ALIGNMENT, INLINE_BELOW, compact
from edge_embed_convert.graph.weights import find_projections
from edge_embed_convert.recipes.grammar import Recipe
from edge_embed_convert.recipes.placement import projections
from edge_embed_convert.recipes.quantize import quantize

BUCKETS = [16, 40, 70]


@pytest.fixture(scope="module")
def float_graph(write_gemma, ours, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("compact")
    checkpoint = write_gemma(directory / "gemma", num_hidden_layers=3)
    export(ours.load(checkpoint), BUCKETS, directory / "float.tflite")
    return directory / "float.tflite"


@pytest.fixture(scope="module")
def graphs(float_graph: Path, ours) -> dict[str, bytes]:
    model = ours.load(float_graph.parent / "gemma")
    weights = {path: layer.weight for path, layer in projections(model).items()}
    found = find_projections(float_graph, weights)
    return {
        name: quantize(float_graph, Recipe.parse(name), model, found)
        for name in ("fp32", "mixed", "int4-block32")
    }


def _run(graph: bytes, length: int, ids: Sequence[int]) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    tokens = np.zeros((1, length), np.int32)
    tokens[0, : len(ids)] = ids
    interpreter = Interpreter(model_content=bytes(graph))  # must outlive its runner
    return interpreter.get_signature_runner(f"embed_{length}")(tokens=tokens)["embedding"].copy()


@pytest.mark.parametrize("name", ["fp32", "mixed", "int4-block32"])
def test_same_answers_bit_for_bit(name, graphs, random_ids) -> None:
    before, after = graphs[name], compact(graphs[name])
    for length in BUCKETS:
        for tokens in (1, length // 2, length):
            ids = random_ids(tokens)
            np.testing.assert_array_equal(_run(after, length, ids), _run(before, length, ids))


def test_shorter(graphs) -> None:
    for name, graph in graphs.items():
        assert len(compact(graph)) < len(graph), name


def test_reproducible(graphs) -> None:
    assert compact(graphs["mixed"]) == compact(graphs["mixed"])


def test_again_changes_little(graphs, random_ids) -> None:
    once = compact(graphs["mixed"])
    twice = compact(once)
    assert abs(len(twice) - len(once)) <= 0.01 * len(once)
    np.testing.assert_array_equal(_run(twice, 40, random_ids(30)), _run(once, 40, random_ids(30)))


def _model(graph: bytes) -> Any:
    from ai_edge_litert.tools import flatbuffer_utils

    return flatbuffer_utils.Model.GetRootAs(bytearray(graph), 0)


def test_constants_lie_behind_the_flatbuffer(graphs) -> None:
    graph = compact(graphs["mixed"])
    model = _model(graph)
    external = 0
    for i in range(model.BuffersLength()):
        buffer = model.Buffers(i)
        if buffer.Offset() > 1:
            external += 1
            assert buffer.Offset() % ALIGNMENT == 0
            assert buffer.Offset() + buffer.Size() <= len(graph)
            assert buffer.DataLength() == 0
        else:
            assert buffer.DataLength() < INLINE_BELOW
    assert external > 10


def test_position_tables_of_short_buckets_are_the_beginning_of_long_ones(graphs) -> None:
    """Rotary tables: one sine and one cosine per base, for the longest bucket, serve all."""
    model = _model(compact(graphs["fp32"]))
    places: dict[int, set[int]] = {}
    for i in range(model.BuffersLength()):
        buffer = model.Buffers(i)
        if buffer.Offset() > 1:
            places.setdefault(buffer.Offset(), set()).add(buffer.Size())
    shared = [sizes for sizes in places.values() if len(sizes) > 1]
    assert [sorted(sizes) for sizes in shared] == [[n * 16 * 4 for n in BUCKETS]] * 4


def test_tensors_have_short_names(graphs) -> None:
    graph = compact(graphs["mixed"])
    model = _model(graph)
    names = {
        model.Subgraphs(s).Tensors(t).Name()
        for s in range(model.SubgraphsLength())
        for t in range(model.Subgraphs(s).TensorsLength())
    }
    assert max(map(len, names)) < 80
    assert not any(b"edge_embed" in name for name in names)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        (b"pkg.EmbeddingModel/pkg.Bert_encoder/pkg.BertLayer_5/torch.nn.Linear_down;17", b"encoder/5/down"),
        (b"a.b.Model/x;y/z", b"x"),
        (b"serving_default_tokens:0", b"serving_default_tokens:0"),
        (b"", b""),
    ],
)
def test_short_names(name, short) -> None:
    assert module._short_name(name) == short


LONG = st.integers(0, 3).flatmap(
    lambda seed: st.integers(1, 3 * INLINE_BELOW).map(
        lambda n: (bytes([seed]) * 1100 + bytes(range(256)) * 20)[:n]
    )
)
"""Constants that are often beginnings of one another, and often equal up to a point."""


@settings(max_examples=200, deadline=None)
@given(st.lists(LONG | st.binary(min_size=1, max_size=40), max_size=12))
def test_the_store_gives_back_what_was_put_in(constants: list[bytes]) -> None:
    store = module._Store()
    places = [store.place(data) for data in constants]
    content = store.content()
    for data, place in zip(constants, places, strict=True):
        start = store.offset(place)
        assert start % ALIGNMENT == 0
        assert content[start : start + place.size] == data
    assert len(content) % ALIGNMENT == 0
    assert len(content) <= sum(-(-len(data) // ALIGNMENT) * ALIGNMENT for data in set(constants))


def test_the_store_keeps_one_copy_of_beginnings() -> None:
    store = module._Store()
    data = bytes(range(256)) * 32
    places = [store.place(data[:n]) for n in (2048, 8192, 4096, 8192)]
    assert len({store.offset(place) for place in places}) == 1
    assert len(store.content()) == len(data)


def test_a_short_beginning_of_two_constants() -> None:
    store = module._Store()
    head = b"h" * INLINE_BELOW
    places = [store.place(d) for d in (head, head + b"x" * 100, head + b"y" * 100)]
    content = store.content()
    for place, data in zip(places, (head, head + b"x" * 100, head + b"y" * 100), strict=True):
        assert content[store.offset(place) :][: place.size] == data


def test_position_tables_in_float16(write_tiny_bert, ours, random_ids, tmp_path: Path) -> None:
    """Less than half of the bytes that they had, and an answer that moves as little as float16 does."""
    export(ours.load(write_tiny_bert(tmp_path / "bert")), [16, 64], tmp_path / "float.tflite")
    graph = (tmp_path / "float.tflite").read_bytes()
    whole, half = compact(graph), compact(graph, half_tables=True)
    table = 64 * 64 * 4
    assert table // 2 - 1024 < len(whole) - len(half) <= table // 2
    for length in (16, 64):
        ids = random_ids(length - 3)
        before, after = _run(whole, length, ids)[0], _run(half, length, ids)[0]
        assert 0 < float(np.abs(before - after).max()) < 1e-3


def test_masks_are_no_tables(graphs) -> None:
    """Window masks are added too, and their -20000 is left as it is; so is all of EmbeddingGemma."""
    assert compact(graphs["mixed"], half_tables=True) == compact(graphs["mixed"])


def test_equal_operators_and_tensors_are_written_once(graphs) -> None:
    graph = compact(graphs["mixed"])
    model = _model(graph)
    for count, get in (("TensorsLength", "Tensors"), ("OperatorsLength", "Operators")):
        places = [
            getattr(subgraph, get)(i)._tab.Pos
            for subgraph in map(model.Subgraphs, range(model.SubgraphsLength()))
            for i in range(getattr(subgraph, count)())
        ]
        assert len(set(places)) < len(places), get
