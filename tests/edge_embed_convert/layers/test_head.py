"""Every module that may follow an encoder, against sentence-transformers, and in one delegate partition."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_embed.engine.litert.delegate import partitions
from edge_embed.errors import CheckpointError
from edge_embed_convert.graph.export import export
from edge_embed_convert.layers.head import Pooling
from edge_embed_convert.source.checkpoint import load
from edge_embed_convert.source.modules import ACTIVATIONS, POOLING_MODES
from edge_embed_convert.source.reference import Reference

WIDTH = 64
TOLERANCE = 1e-5
TEXTS = ("The ferry leaves at seven.", "", "stone " * 40, "日本 Οδός")

Assemble = Callable[..., tuple[Path, Any]]

st = pytest.importorskip("sentence_transformers.sentence_transformer.modules", reason="not installed")


def _dense(sizes: tuple[int, int], activation: str, **options: Any) -> Any:
    return st.Dense(*sizes, activation_function=getattr(torch.nn, activation)(), **options)


def _layer_norm(size: int) -> Any:
    module = st.LayerNorm(size)
    torch.nn.init.normal_(module.norm.weight, 1.0, 0.3)
    torch.nn.init.normal_(module.norm.bias, 0.0, 0.3)
    return module


@pytest.fixture(scope="module")
def assemble(
    bert_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Path, Any]]:
    """`assemble(pooling, *modules)` is a directory that sentence-transformers saved, and the model itself."""
    from sentence_transformers import SentenceTransformer

    encoder = st.Transformer(str(bert_checkpoint), max_seq_length=64)

    def make(pooling: str | Sequence[str], *modules: Any) -> tuple[Path, Any]:
        torch.manual_seed(5)
        model = SentenceTransformer(modules=[encoder, st.Pooling(WIDTH, pooling), *modules], device="cpu")
        directory = tmp_path_factory.mktemp("assembled")
        model.save(str(directory))
        return directory, model

    return make


def _check(directory: Path, model: Any, ours: Any) -> None:
    checkpoint = load(directory)
    graph, reference = ours.load(directory), Reference(checkpoint)
    for text, wanted in zip(TEXTS, model.encode(list(TEXTS)), strict=True):
        ids = model.tokenizer(text, truncation=True, max_length=64)["input_ids"]
        assert wanted.shape == (checkpoint.dimension,)
        scale = max(1.0, float(np.abs(wanted).max()))
        for bucket in (len(ids), 64):
            assert np.abs(ours.run(graph, ids, bucket) - wanted).max() <= TOLERANCE * scale
        assert np.abs(reference.embed_tokens(ids) - wanted).max() <= TOLERANCE * scale


@pytest.mark.parametrize(
    "modes",
    [*POOLING_MODES, ("lasttoken", "cls"), POOLING_MODES[::-1]],
    ids=lambda modes: "".join(modes)[:24],
)
def test_poolings(modes: str | Sequence[str], assemble, ours) -> None:
    directory, model = assemble(modes)
    _check(directory, model, ours)
    assert not load(directory).normalize


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_dense(name: str, residual: bool, assemble, ours) -> None:
    first = _dense((WIDTH, WIDTH), name, bias=residual, use_residual=residual)
    _check(
        *assemble("mean", first, _dense((WIDTH, 24), name, bias=not residual, use_residual=residual)), ours
    )


def test_any_order(assemble, ours) -> None:
    directory, model = assemble(
        "mean",
        st.Normalize(),
        _layer_norm(WIDTH),
        st.Dropout(0.5),
        _dense((WIDTH, 96), "GELU"),
        st.Normalize(),
        st.Dropout(0.1),
        _dense((96, 32), "Identity", bias=False),
        _layer_norm(32),
        st.Normalize(),
    )
    _check(directory, model, ours)
    checkpoint = load(directory)
    assert (checkpoint.dimension, checkpoint.normalize, len(checkpoint.dense)) == (32, True, 2)


def test_normalize_ahead_of_the_last_module_is_not_unit_length(assemble, ours) -> None:
    directory, model = assemble("cls", st.Normalize(), _layer_norm(WIDTH))
    _check(directory, model, ours)
    assert not load(directory).normalize
    directory, model = assemble("cls", st.Normalize(), st.Dropout(0.5))
    _check(directory, model, ours)
    assert load(directory).normalize


def test_all_of_it_is_one_partition(assemble, ours, tmp_path: Path) -> None:
    wide = WIDTH * len(POOLING_MODES)
    directory, _ = assemble(
        POOLING_MODES,
        _layer_norm(wide),
        *(_dense((wide, wide), name, use_residual=name == "ReLU") for name in ACTIVATIONS),
        st.Normalize(),
        _dense((wide, 32), "Tanh", use_residual=True),
    )
    graph = ours.load(directory)
    path = tmp_path / "graph.tflite"
    export(graph, [12], path)
    report = partitions(path, 12)
    assert report.partitions == 1
    assert set(report.outside) <= {"EMBEDDING_LOOKUP", "CAST", "RESHAPE"}, report


def test_last_token_of_padding_alone_is_finite() -> None:
    x, mask = torch.ones(1, 4, 2), torch.zeros(1, 4)
    assert torch.isfinite(Pooling(POOLING_MODES)(x, mask)).all()


def test_weighted_mean_stays_in_float16() -> None:
    """The sum of the positions of 2048 tokens is 32 times the largest number of float16."""
    x, mask = torch.randn(1, 2048, 4), torch.ones(1, 2048)
    exact = Pooling(["weightedmean"])(x, mask)
    rounded = Pooling(["weightedmean"])(x.half(), mask.half())
    torch.testing.assert_close(rounded.float(), exact, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("index", "changes", "words"),
    [
        (1, {"embedding_dimension": 48}, ("Pooling", "48", "64")),
        (1, {"pooling_mode": ["mean", "median"]}, ("unknown pooling", "median", "lasttoken")),
        (1, {"pooling_mode": []}, ("unknown pooling", "[]")),
        (2, {"dimension": 32}, ("2_LayerNorm", "dimension = 32", "64")),
        (2, {"dimension": None}, ("2_LayerNorm", "dimension")),
        (3, {"in_features": True}, ("3_Dense", "in_features = True")),
        (3, {"module_input_name": "token_embeddings"}, ("3_Dense", "token_embeddings")),
        (3, {"activation_function": "custom.activations.Tanh"}, ("3_Dense", "custom.activations.Tanh")),
        (4, {"module_output_name": "other"}, ("4_Normalize", "other", "sentence_embedding")),
    ],
)
def test_settings_that_are_refused(
    index: int, changes: dict[str, Any], words: tuple[str, ...], assemble, tmp_path: Path
) -> None:
    directory, _ = assemble("mean", _layer_norm(WIDTH), _dense((WIDTH, 8), "Tanh"), st.Normalize())
    entries = json.loads((directory / "modules.json").read_text("utf-8"))
    file = directory / entries[index]["path"] / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | changes), "utf-8")
    with pytest.raises(CheckpointError) as caught:
        load(directory)
    assert all(word in str(caught.value) for word in words), caught.value
