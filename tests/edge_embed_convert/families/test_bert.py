"""The rewritten BERT encoder and the head against transformers' BERT, over every way to pool."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edge_embed.errors import CheckpointError
from edge_embed_convert.layers.head import Pooling

TOLERANCE = 1e-5
LENGTHS = ((3, 3), (9, 16), (33, 40), (64, 64))
"""Tokens, and the bucket they run in."""


def _far(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


def _set_modules(directory: Path, *kinds: str) -> None:
    paths = {"Pooling": "1_Pooling"}
    index = [
        {
            "idx": i,
            "name": str(i),
            "path": "" if i == 0 else paths.get(kind, f"{i}_{kind}"),
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(kinds)
    ]
    (directory / "modules.json").write_text(json.dumps(index), "utf-8")


def _add_dense(
    directory: Path, place: int, sizes: tuple[int, int], *, bias: bool, activation: str | None
) -> None:
    path = directory / f"{place}_Dense"
    path.mkdir()
    generator = torch.Generator().manual_seed(place)
    tensors = {"linear.weight": torch.randn(sizes[1], sizes[0], generator=generator) * 0.2}
    config: dict[str, Any] = {"in_features": sizes[0], "out_features": sizes[1], "bias": bias}
    if bias:
        tensors["linear.bias"] = torch.randn(sizes[1], generator=generator)
    if activation is not None:
        config["activation_function"] = activation
    (path / "config.json").write_text(json.dumps(config), "utf-8")
    save_file(tensors, path / "model.safetensors")


@pytest.mark.parametrize("normalize", [True, False], ids=["unit", "plain"])
@pytest.mark.parametrize(
    "pooling",
    [
        ("cls_token",),
        ("mean_tokens",),
        ("max_tokens",),
        ("mean_sqrt_len_tokens",),
        ("cls_token", "mean_tokens"),
        ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens"),
    ],
    ids="+".join,
)
def test_pooling(pooling, normalize, write_tiny_bert, edit, ours, source_of, random_ids, tmp_path) -> None:
    write_tiny_bert(tmp_path, normalize=normalize)
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    edit(tmp_path / "1_Pooling" / "config.json", **{f"pooling_mode_{m}": m in pooling for m in modes})
    model, source = ours.load(tmp_path), source_of(tmp_path)
    for length, bucket in LENGTHS:
        ids = random_ids(length)
        vector, expected = ours.run(model, ids, bucket), source(ids)
        assert vector.shape == (64 * len(pooling),)
        assert _far(vector, expected) <= TOLERANCE * max(1.0, float(np.abs(expected).max()))
        assert normalize == (abs(np.linalg.norm(vector) - 1) < 1e-5)


def test_pooling_in_the_new_spelling(write_tiny_bert, edit, ours, random_ids, tmp_path) -> None:
    """sentence-transformers 5 names the mode in one entry."""
    write_tiny_bert(tmp_path, pooling="max")
    ids = random_ids(10)
    old = ours.run(ours.load(tmp_path), ids)
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode": "max"}', "utf-8")
    assert (ours.run(ours.load(tmp_path), ids) == old).all()


@pytest.mark.parametrize(
    "activation", ["torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity", None]
)
@pytest.mark.parametrize("bias", [True, False])
def test_dense(bias, activation, write_tiny_bert, ours, source_of, random_ids, tmp_path) -> None:
    write_tiny_bert(tmp_path, normalize=False)
    _add_dense(tmp_path, 2, (64, 96), bias=bias, activation=activation or "torch.nn.modules.activation.Tanh")
    _add_dense(tmp_path, 3, (96, 24), bias=True, activation="torch.nn.modules.linear.Identity")
    source_modules = ("Transformer", "Pooling", "Dense", "Dense")
    _set_modules(tmp_path, *source_modules)
    source = source_of(tmp_path)
    if activation is None:  # Tanh is what sentence-transformers takes where the file says nothing
        file = tmp_path / "2_Dense" / "config.json"
        config = json.loads(file.read_text("utf-8"))
        del config["activation_function"]
        file.write_text(json.dumps(config), "utf-8")
    model = ours.load(tmp_path)
    for length, bucket in LENGTHS:
        ids = random_ids(length)
        assert _far(ours.run(model, ids, bucket), source(ids)) <= TOLERANCE


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"])
def test_activations(
    activation, write_tiny_bert, rewrite_tensors, ours, source_of, random_ids, tmp_path
) -> None:
    write_tiny_bert(tmp_path, hidden_act=activation, layer_norm_eps=1e-3)

    def strengthen(tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            if ".intermediate." in name or ".output.dense." in name:
                tensor.mul_(3)  # into the range where the activations differ

    rewrite_tensors(tmp_path, strengthen)
    model, source = ours.load(tmp_path), source_of(tmp_path)
    for length, bucket in LENGTHS:
        ids = random_ids(length)
        assert _far(ours.run(model, ids, bucket), source(ids)) <= TOLERANCE


def test_the_activations_differ(write_tiny_bert, rewrite_tensors, ours, random_ids, tmp_path) -> None:
    vectors = []
    for activation in ("gelu", "gelu_new", "relu"):
        directory = tmp_path / activation
        write_tiny_bert(directory, hidden_act=activation)
        rewrite_tensors(
            directory,
            lambda t: [v.mul_(3) for n, v in t.items() if ".intermediate." in n or ".output.dense." in n],
        )
        vectors.append(ours.run(ours.load(directory), random_ids(20)))
    distances = [_far(a, b) for a, b in itertools.combinations(vectors, 2)]
    assert min(distances) > 2 * TOLERANCE, distances


@pytest.mark.parametrize("prefix", ["bert.", ""])
def test_wrappers_and_unused_heads(prefix, write_tiny_bert, ours, random_ids, tmp_path) -> None:
    """A pooler, a counter of positions, and the prefix of a model with a task's head."""
    write_tiny_bert(tmp_path)
    ids = random_ids(12)
    before = ours.run(ours.load(tmp_path), ids, 16)
    tensors = {prefix + n: t for n, t in load_file(tmp_path / "model.safetensors").items()}
    tensors[f"{prefix}embeddings.position_ids"] = torch.arange(64)[None]
    tensors[f"{prefix}pooler.dense.weight"] = torch.ones(64, 64)
    tensors[f"{prefix}pooler.dense.bias"] = torch.ones(64)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert (ours.run(ours.load(tmp_path), ids, 16) == before).all()


def test_heads_outside_the_prefix(write_tiny_bert, ours, random_ids, tmp_path) -> None:
    """As a masked language model is saved: the encoder below `bert.`, its head beside it."""
    write_tiny_bert(tmp_path)
    before = ours.run(ours.load(tmp_path), random_ids(12))
    tensors = {f"bert.{n}": t for n, t in load_file(tmp_path / "model.safetensors").items()}
    tensors["cls.predictions.bias"] = torch.ones(64)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert (ours.run(ours.load(tmp_path), random_ids(12)) == before).all()


def test_old_names_of_norms(write_tiny_bert, ours, random_ids, tmp_path) -> None:
    write_tiny_bert(tmp_path)
    before = ours.run(ours.load(tmp_path), random_ids(12))
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = {
        next((n.replace(new, name) for new, name in old.items() if n.endswith(new)), n): t
        for n, t in load_file(tmp_path / "model.safetensors").items()
    }
    assert any(n.endswith("gamma") for n in tensors)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert (ours.run(ours.load(tmp_path), random_ids(12)) == before).all()


@pytest.mark.parametrize("zipped", [True, False], ids=["today", "before PyTorch 1.6"])
def test_torch_pickles_are_read(zipped, write_tiny_bert, ours, random_ids, tmp_path) -> None:
    write_tiny_bert(tmp_path)
    before = ours.run(ours.load(tmp_path), random_ids(12))
    tensors = load_file(tmp_path / "model.safetensors")
    torch.save(tensors, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    (tmp_path / "model.safetensors").unlink()
    assert (ours.run(ours.load(tmp_path), random_ids(12)) == before).all()


def test_shards_are_read(write_tiny_bert, ours, random_ids, tmp_path) -> None:
    write_tiny_bert(tmp_path)
    before = ours.run(ours.load(tmp_path), random_ids(12))
    tensors = load_file(tmp_path / "model.safetensors")
    names = sorted(tensors)
    for i in range(2):
        part = {n: tensors[n] for n in names[i::2]}
        save_file(part, tmp_path / f"model-0000{i + 1}-of-00002.safetensors", {"format": "pt"})
    (tmp_path / "model.safetensors").unlink()
    assert (ours.run(ours.load(tmp_path), random_ids(12)) == before).all()


@pytest.mark.parametrize(
    ("key", "value"),
    [("hidden_act", "swish"), ("position_embedding_type", "relative_key"), ("is_decoder", True)],
)
def test_unsupported_variants_are_named(key, value, write_tiny_bert, ours, tmp_path) -> None:
    write_tiny_bert(tmp_path, **{key: value})
    with pytest.raises(CheckpointError, match=key) as caught:
        ours.load(tmp_path)
    assert repr(value) in str(caught.value)


# Each rewrite by itself.


@pytest.fixture(scope="module")
def model(bert_checkpoint, ours):
    return ours.load(bert_checkpoint)


@pytest.fixture(scope="module")
def source(bert_checkpoint, source_of):
    return source_of(bert_checkpoint)


@pytest.fixture
def tensors(bert_checkpoint) -> dict[str, torch.Tensor]:
    return load_file(bert_checkpoint / "model.safetensors")


def test_token_type_is_merged_into_the_positions(model, source, tensors, random_ids) -> None:
    ids = torch.tensor([random_ids(20)])
    encoder = model.encoder
    stays, _ = encoder.norm(torch.nn.functional.embedding(ids, encoder.table) + encoder.positions[:20])
    embedded = stays + tensors["embeddings.LayerNorm.bias"]  # which the branches that are added have
    with torch.inference_mode():
        torch.testing.assert_close(embedded, source.model.embeddings(input_ids=ids), rtol=0, atol=2e-6)


def test_the_scale_of_attention_is_in_the_query(model, tensors) -> None:
    standard = torch.randn(5, 64, generator=torch.Generator().manual_seed(3))
    norms = [
        ("embeddings", model.encoder.norm),
        ("encoder.layer.0.output", model.encoder.layers[0].down_norm),
    ]
    for index, (layer, (before, norm)) in enumerate(zip(model.encoder.layers, norms, strict=True)):
        at = f"encoder.layer.{index}.attention.self.query"
        x = standard * tensors[f"{before}.LayerNorm.weight"] + tensors[f"{before}.LayerNorm.bias"]
        expected = (x @ tensors[f"{at}.weight"].T + tensors[f"{at}.bias"]) / layer.head_dim**0.5
        torch.testing.assert_close(layer.query(standard * norm.read), expected, rtol=0, atol=1e-6)


def test_layers_one_by_one(model, source, tensors, random_ids) -> None:
    ids = random_ids(20)
    states: list[torch.Tensor] = []
    for layer in source.model.encoder.layer:
        layer.register_forward_hook(
            lambda _, __, out: states.append(out[0] if isinstance(out, tuple) else out)
        )
    source.hidden(ids)
    got: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_hook(
            lambda _, __, out, bias=tensors[f"encoder.layer.{index}.output.LayerNorm.bias"]: got.append(
                out[0] + bias if isinstance(out, tuple) else out  # a branch of the next layer has the bias
            )
        )
        for index, layer in enumerate(model.encoder.layers)
    ]
    model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    for mine, theirs in zip(got, states, strict=True):
        torch.testing.assert_close(mine.reshape(20, 64), theirs.reshape(20, 64), rtol=0, atol=TOLERANCE)


def test_content_of_padding_cannot_matter(model, ours, random_ids) -> None:
    ids = random_ids(20)
    before = ours.run(model, ids, 40)
    row = model.encoder.table.data[0].clone()
    try:
        model.encoder.table.data[0] = torch.randn_like(row) * 50
        after = ours.run(model, ids, 40)
    finally:
        model.encoder.table.data[0] = row
    assert _far(before, after) <= 1e-6


def test_only_padding_stays_finite(write_tiny_bert, ours, tmp_path) -> None:
    for pooling in ("mean", "cls", "max"):
        model = ours.load(write_tiny_bert(tmp_path / pooling, pooling=pooling))
        assert np.isfinite(ours.run(model, [], 16)).all()


def test_padding_is_found_whatever_its_id(bert_checkpoint, edit, source, ours, random_ids) -> None:
    from edge_embed_convert.graph.rewrite import build
    from edge_embed_convert.source import checkpoint as checkpoints

    model = build(checkpoints.load(bert_checkpoint), 599)
    ids = [i for i in random_ids(20) if i != 599]
    assert _far(ours.run(model, ids, 30, pad=599), source(ids)) <= TOLERANCE


def test_maximum_pooling_of_negative_values_ignores_padding() -> None:
    x = torch.tensor([[[-3.0, -5.0], [-4.0, -1.0], [9.0, 9.0]]])
    mask = torch.tensor([[1.0, 1.0, 0.0]])
    assert Pooling(["max"])(x, mask).tolist() == [[-3.0, -1.0]]


def test_float16_stays_close(model, bert_checkpoint, ours, source, random_ids) -> None:
    half = ours.load(bert_checkpoint).half()
    for length, bucket in LENGTHS:
        ids = random_ids(length)
        assert float(ours.run(half, ids, bucket).astype(np.float32) @ source(ids)) >= 0.999


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_sentence_transformers_agrees(pooling, write_tiny_bert, ours, tmp_path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="not installed")
    write_tiny_bert(tmp_path, pooling=pooling, normalize=False)
    _add_dense(tmp_path, 2, (64, 32), bias=True, activation="torch.nn.modules.activation.Tanh")
    _set_modules(tmp_path, "Transformer", "Pooling", "Dense")
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    texts = ["The ferry leaves at seven.", "stone " * 40, "日本 Οδός"]
    model = ours.load(tmp_path)
    for text, wanted in zip(texts, theirs.encode(texts), strict=True):
        ids = theirs.tokenizer(text, truncation=True, max_length=64)["input_ids"]
        assert _far(ours.run(model, ids, 64), wanted) <= TOLERANCE
