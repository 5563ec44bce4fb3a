"""Bad checkpoints: each is refused by our own error, which names the culprit and says what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edge_embed.errors import CheckpointError
from edge_embed_convert.families.gemma3 import FAMILY, Gemma3Config
from edge_embed_convert.source.checkpoint import load

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1211486072\n"

EMBEDDINGGEMMA_300M = dict(FAMILY.released.config)

Tensors = dict[str, torch.Tensor]


# Weights.


def test_missing_weight(gemma, rewrite_tensors, refused) -> None:
    rewrite_tensors(gemma, lambda tensors: tensors.pop("layers.2.mlp.up_proj.weight"))
    refused(gemma, "missing", "layers.2.mlp.up_proj.weight", "to fix it")


def test_missing_weight_of_bert(bert, rewrite_tensors, refused) -> None:
    rewrite_tensors(bert, lambda tensors: tensors.pop("encoder.layer.1.attention.self.value.bias"))
    refused(bert, "missing", "encoder.layer.1.attention.self.value.bias")


def test_extra_weight(gemma, rewrite_tensors, refused) -> None:
    rewrite_tensors(
        gemma, lambda tensors: tensors.update({"layers.4.mlp.up_proj.weight": torch.zeros(96, 64)})
    )
    refused(gemma, "layers.4.mlp.up_proj.weight", "does not use", "to fix it")


def test_adapter_weights_beside(bert, rewrite_tensors, refused) -> None:
    rewrite_tensors(
        bert, lambda tensors: tensors.update({"encoder.layer.0.lora_A.weight": torch.zeros(4, 64)})
    )
    refused(bert, "encoder.layer.0.lora_A.weight", "adapters must be merged")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weight_that_is_not_finite(value, gemma, rewrite_tensors, refused) -> None:
    def poison(tensors: Tensors) -> None:
        tensors["layers.1.mlp.down_proj.weight"][3, 7] = value

    rewrite_tensors(gemma, poison)
    refused(gemma, "layers.1.mlp.down_proj.weight", "1 of 6144", "not finite", "to fix it")


def test_dense_weight_that_is_not_finite(gemma, rewrite_tensors, refused) -> None:
    rewrite_tensors(gemma / "3_Dense", lambda tensors: tensors["linear.weight"].fill_(torch.nan))
    refused(gemma, "linear.weight", "not finite", "to fix it")


def test_misshapen_weight(gemma, rewrite_tensors, refused) -> None:
    rewrite_tensors(gemma, lambda t: t.update({"layers.0.self_attn.k_proj.weight": torch.zeros(64, 64)}))
    refused(gemma, "layers.0.self_attn.k_proj.weight", "(64, 64)", "(32, 64)", "to fix it")


def test_table_of_another_vocabulary(bert, edit, refused) -> None:
    edit(bert / "config.json", vocab_size=700)
    refused(bert, "word_embeddings.weight", "(600, 64)", "(700, 64)")


def test_fewer_layers_than_weights(bert, edit, refused) -> None:
    edit(bert / "config.json", num_hidden_layers=1)
    refused(bert, "encoder.layer.1.", "num_hidden_layers")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("content", [LFS_POINTER, b"", b"\0" * 100], ids=["lfs", "empty", "zeros"])
def test_file_that_holds_no_weights(name, content, bert, refused) -> None:
    (bert / "model.safetensors").unlink()
    (bert / name).write_bytes(content)
    refused(bert, name, f"{len(content)} bytes", "Git LFS")


def test_cut_weights(bert, refused) -> None:
    file = bert / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    refused(bert, "model.safetensors", "5000 bytes")


def test_no_weights(bert, refused) -> None:
    (bert / "model.safetensors").unlink()
    refused(bert, "no weights", str(bert), "model.safetensors")


def test_dense_without_weights(gemma, refused) -> None:
    (gemma / "2_Dense" / "model.safetensors").unlink()
    refused(gemma, "no weights", "2_Dense")


def test_missing_shard(bert, refused) -> None:
    (bert / "model.safetensors").rename(bert / "model-00001-of-00002.safetensors")
    refused(bert, "shards", "1 files", "2 files", "to fix it")


# The sliding window.


@pytest.mark.parametrize("window", [257, 129, 65, 33, 17])
def test_halved_window(window, gemma, edit, refused) -> None:
    edit(gemma / "config.json", sliding_window=window)
    refused(gemma, f"sliding_window = {window}", "halved", "even number", "--sliding-window")


@pytest.mark.parametrize("window", [256, 128, 257])
def test_halved_window_of_the_released_shape(window) -> None:
    with pytest.raises(CheckpointError, match="halved") as caught:
        Gemma3Config.parse(EMBEDDINGGEMMA_300M | {"sliding_window": window})
    assert f"sliding_window = {window}" in str(caught.value)
    assert "512, as EmbeddingGemma was released" in str(caught.value)


def test_windows_that_are_right() -> None:
    assert Gemma3Config.parse(EMBEDDINGGEMMA_300M).window_radius == 256
    assert Gemma3Config.parse(EMBEDDINGGEMMA_300M | {"sliding_window": 257}, 512).window_radius == 256
    other = EMBEDDINGGEMMA_300M | {"num_hidden_layers": 12, "sliding_window": 256}
    assert Gemma3Config.parse(other).window_radius == 128


# modules.json and what it names.


def _modules(directory: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    file = directory / "modules.json"
    entries = json.loads(file.read_text("utf-8"))
    change(entries)
    file.write_text(json.dumps(entries), "utf-8")


def _drop_dense(entries: list[dict[str, Any]]) -> None:
    entries[:] = [e for e in entries if not e["type"].endswith("Dense")]


def test_dense_dropped_from_modules_with_directories_left(gemma, refused) -> None:
    _modules(gemma, _drop_dense)
    refused(gemma, "2_Dense, 3_Dense", "modules.json", "to fix it")


def test_dense_dropped_with_directories_gone(gemma, refused) -> None:
    _modules(gemma, _drop_dense)
    shutil.rmtree(gemma / "2_Dense")
    shutil.rmtree(gemma / "3_Dense")
    refused(gemma, "Dense", "modules.json lists none", "--without-dense")


def test_one_dense_dropped(gemma, refused) -> None:
    _modules(gemma, lambda entries: entries.pop(2))
    shutil.rmtree(gemma / "2_Dense")
    refused(gemma, "3_Dense", "in_features = 256", "64", "to fix it")


def test_without_dense_on_purpose(gemma, ours, random_ids) -> None:
    _modules(gemma, _drop_dense)
    shutil.rmtree(gemma / "2_Dense")
    shutil.rmtree(gemma / "3_Dense")
    assert ours.run(ours.load(gemma, without_dense=True), random_ids(5)).shape == (64,)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        "null",
        "3",
        '["Transformer"]',
        '[{"idx": 0}]',
        '[{"type": "a.Transformer", "path": ""}]',
        '[{"idx": 0, "path": "", "type": "x.Transformer"}, {"idx": "1", "path": "", "type": "x.Pooling"}]',
    ],
)
def test_malformed_modules(content, bert, refused) -> None:
    (bert / "modules.json").write_text(content, "utf-8")
    shutil.rmtree(bert / "1_Pooling")
    shutil.rmtree(bert / "2_Normalize")
    refused(bert, "modules", fix=False)


@pytest.mark.parametrize("kind", ["WordWeights", "LSTM", "WeightedLayerPooling", "CNN"])
def test_module_that_cannot_be_exported(kind, bert, refused) -> None:
    _modules(bert, lambda entries: entries[2].update(type=f"sentence_transformers.models.{kind}"))
    refused(bert, f"Transformer → Pooling → {kind}", "Normalize")


def test_dense_ahead_of_the_pooling(gemma, refused) -> None:
    _modules(gemma, lambda entries: entries.insert(1, entries.pop(2)))
    refused(gemma, "Transformer → Dense → Pooling → Dense → Normalize")


def test_code_of_the_checkpoint_is_never_run(gemma, refused) -> None:
    _modules(gemma, lambda entries: entries[2].update(type="custom_dense.Dense"))
    (gemma / "custom_dense.py").write_text("raise SystemExit('it was run')\n", "utf-8")
    refused(gemma, "custom_dense.Dense", "never run", "to fix it")


def test_no_pooling_module(bert, refused) -> None:
    _modules(bert, lambda entries: entries.pop(1))
    shutil.rmtree(bert / "1_Pooling")
    refused(bert, "Transformer → Normalize", "Pooling")


def test_pooling_directory_gone(bert, refused) -> None:
    shutil.rmtree(bert / "1_Pooling")
    refused(bert, "Pooling", "1_Pooling", "to fix it")


def test_prompt_left_out_of_pooling(bert, edit, refused) -> None:
    edit(bert / "1_Pooling" / "config.json", include_prompt=False)
    refused(bert, "include_prompt = false", "true")


def test_unsupported_activation_of_dense(gemma, edit, refused) -> None:
    edit(gemma / "2_Dense" / "config.json", activation_function="torch.nn.modules.activation.Mish")
    refused(gemma, "2_Dense", "Mish", "Tanh")


def test_incomplete_dense(gemma, edit, refused) -> None:
    edit(gemma / "2_Dense" / "config.json", out_features=None)
    refused(gemma, "2_Dense", "out_features", fix=False)


# A plain transformers directory.


@pytest.fixture
def plain(bert: Path) -> Path:
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (bert / name).unlink()
    for name in ("1_Pooling", "2_Normalize"):
        shutil.rmtree(bert / name)
    return bert


def test_plain_directory_needs_a_pooling(plain, refused) -> None:
    refused(plain, str(plain), "pool", "--pooling", "mean")


def test_plain_directory_with_a_pooling(plain, bert_checkpoint, ours, random_ids) -> None:
    ids = random_ids(9)
    assert (
        ours.run(ours.load(plain, pooling="mean"), ids) == ours.run(ours.load(bert_checkpoint), ids)
    ).all()
    assert load(plain, pooling="cls").pooling == ("cls",)


def test_unknown_pooling(plain, refused) -> None:
    refused(plain, "unknown pooling", "'average'", "cls, max, mean", pooling="average")


def test_pooling_said_twice(bert, refused) -> None:
    refused(bert, "modules.json", "--pooling cls", pooling="cls")


# What the files say.


def test_what_is_read(gemma, edit) -> None:
    checkpoint = load(gemma)
    assert checkpoint.id == "gemma"
    assert (checkpoint.pooling, checkpoint.normalize, checkpoint.dimension) == (("mean",), True, 64)
    assert [(d.in_features, d.out_features, d.activation) for d in checkpoint.dense] == [
        (64, 256, "identity"),
        (256, 64, "identity"),
    ]
    assert checkpoint.prompts["query"] == "task: search result | query: "
    assert (checkpoint.similarity, checkpoint.licence) == ("cosine", "apache-2.0")
    assert [f.name for f in checkpoint.licence_files] == ["LICENSE", "NOTICE"]
    edit(gemma / "config_sentence_transformers.json", similarity_fn_name="dot", default_prompt_name="query")
    assert load(gemma).similarity == "dot"
    assert load(gemma).default_prompt_name == "query"


def test_hash_covers_every_weight_file(gemma, rewrite_tensors) -> None:
    before = load(gemma).weights_sha256()
    rewrite_tensors(gemma / "3_Dense", lambda tensors: tensors["linear.weight"].mul_(1.5))
    assert load(gemma).weights_sha256() != before
