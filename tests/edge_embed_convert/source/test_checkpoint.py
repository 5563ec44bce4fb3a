"""Bad checkpoints: each is refused by our own error, which names the culprit and says what to do."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import errors as hub_errors

from edge_embed.errors import CheckpointError
from edge_embed_convert.buckets import check_buckets, default_buckets
from edge_embed_convert.families.gemma3 import FAMILY, Gemma3Config
from edge_embed_convert.pipeline import convert
from edge_embed_convert.source.checkpoint import load

# Releases of huggingface_hub stand on different releases of this library.
httpx = importlib.import_module(hub_errors.HfHubHTTPError.__mro__[1].__module__.partition(".")[0])

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1211486072\n"

EMBEDDINGGEMMA_300M = dict(FAMILY.released.config)

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def gemma(gemma_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(gemma_checkpoint, tmp_path / "gemma")


@pytest.fixture
def bert(bert_checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bert_checkpoint, tmp_path / "bert")


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., CheckpointError]:
    """Converts, and checks that it is refused in words of ours, with a fix, and leaves nothing."""

    def check(directory: Path | str, *words: str, fix: bool = True, **options: Any) -> CheckpointError:
        out = tmp_path / "out"
        out.mkdir()
        with pytest.raises(CheckpointError) as caught:
            convert(directory, out, **options)
        message = str(caught.value)
        assert all(word in message for word in words), message
        assert caught.value.fix or caught.value.expected or not fix, message
        assert list(out.iterdir()) == []
        return caught.value

    return check


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
    _modules(gemma, lambda entries: (entries[1].update(idx=2), entries[2].update(idx=1)))
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


# Configurations.


def test_unknown_architecture(bert, edit, refused) -> None:
    edit(bert / "config.json", model_type="t5")
    refused(bert, "'t5'", "'bert'", "'gemma3_text'", "to fix it")


@pytest.mark.parametrize("value", [None, False])
def test_decoder_gemma(value, gemma, edit, refused) -> None:
    edit(gemma / "config.json", use_bidirectional_attention=value)
    refused(gemma, "decoder", f"use_bidirectional_attention = {value!r}", "to fix it")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("head_dim", None),
        ("num_hidden_layers", 0),
        ("num_key_value_heads", "one"),
        ("hidden_activation", "silu"),
        ("attn_logit_softcapping", 50.0),
        ("rope_scaling", {"rope_type": "yarn", "factor": 2.0}),
        ("layer_types", ["full_attention"]),
    ],
)
def test_gemma_config_that_cannot_be_used(key, value, ours, gemma, edit) -> None:
    edit(gemma / "config.json", **{key: value})
    if value is None:
        config = json.loads((gemma / "config.json").read_text("utf-8"))
        assert key not in config
    with pytest.raises(CheckpointError) as caught:
        ours.load(gemma)
    named = {
        "hidden_activation": "activation",
        "attn_logit_softcapping": "softcapping",
        "rope_scaling": "yarn",
    }
    assert named.get(key, key) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", b"\xe9"),
        ("1_Pooling/config.json", "nonsense"),
        ("sentence_bert_config.json", "{,}"),
    ],
)
def test_files_that_are_not_json(name, content, bert, refused) -> None:
    (bert / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(bert, name, fix=False)


def test_inconsistent_heads(bert, edit, refused) -> None:
    edit(bert / "config.json", num_attention_heads=7)
    refused(bert, "heads", fix=False)


def test_default_prompt_that_is_not_there(gemma, edit, refused) -> None:
    edit(gemma / "config_sentence_transformers.json", default_prompt_name="poem")
    refused(gemma, "default_prompt_name", "'poem'", "query, document")


@pytest.mark.parametrize("prompts", [["a"], {"query": 3}, "query: "])
def test_malformed_prompts(prompts, gemma, edit, refused) -> None:
    edit(gemma / "config_sentence_transformers.json", prompts=prompts)
    refused(gemma, "prompts", "malformed", fix=False)


@pytest.mark.parametrize("asked", [0, -3, 65, 10**9])
def test_maximum_out_of_range(asked, bert, refused) -> None:
    refused(bert, "maximum length", str(asked), "1 to 64", max_tokens=asked)


def test_maximum_is_the_least_of_all_limits(bert, edit) -> None:
    assert load(bert).max_tokens == 64
    edit(bert / "sentence_bert_config.json", max_seq_length=48)
    assert load(bert).max_tokens == 48
    assert load(bert, max_tokens=20).max_tokens == 20
    edit(bert / "sentence_bert_config.json", max_seq_length=None)
    edit(bert / "tokenizer_config.json", model_max_length=40)
    assert load(bert).max_tokens == 40
    edit(bert / "tokenizer_config.json", model_max_length=int(1e30))
    assert load(bert).max_tokens == 64


@pytest.mark.parametrize(
    "buckets", [[], [3, 64], [0, 64], [-8, 64], [16, 16, 64], [16, 32], [16, 128], [64, 64]]
)
def test_bad_buckets(buckets) -> None:
    with pytest.raises(CheckpointError, match="bucket list") as caught:
        check_buckets(buckets, 64)
    assert "the largest 64" in str(caught.value)
    assert "--max-tokens" in str(caught.value)
    assert (", ".join(map(str, buckets)) or "nothing") in str(caught.value)


def test_an_empty_bucket_list_is_not_the_default(bert, refused) -> None:
    refused(bert, "bucket list", "nothing", buckets=[])


def test_buckets_in_any_order() -> None:
    assert check_buckets([64, 16], 64) == [16, 64]


@pytest.mark.parametrize(
    ("maximum", "expected"),
    [(4, [4]), (16, [16]), (17, [16, 17]), (256, [16, 32, 64, 128, 256]), (100, [16, 32, 64, 100])],
)
def test_default_buckets(maximum, expected) -> None:
    assert default_buckets(maximum) == expected
    assert check_buckets(expected, maximum) == expected


# Places that are no checkpoint.


def test_no_such_directory(refused, tmp_path) -> None:
    refused(tmp_path / "nothing", "nothing", "neither a directory nor a hub id", "owner/name")


def test_a_file(refused, bert) -> None:
    refused(bert / "model.safetensors", "model.safetensors", "a file", "a directory")


def test_an_empty_directory(refused, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "not a checkpoint", "neither modules.json nor config.json")


@pytest.mark.parametrize("source", ["a b/c", "", "owner/name/more", "./nothing", "../up/there", "~/nothing"])
def test_neither_path_nor_hub_id(source, refused) -> None:
    if source == "":
        return  # the working directory
    refused(source, "no such checkpoint", "owner/name")


def _response(status: int) -> Any:
    return httpx.Response(
        status, request=httpx.Request("GET", "https://huggingface.co/api/models/owner/name")
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            hub_errors.GatedRepoError("403 gated", response=_response(403)),
            ("owner/name is gated", "https://huggingface.co/owner/name", "hf auth login", "directory"),
        ),
        (
            hub_errors.RepositoryNotFoundError("404", response=_response(404)),
            ("no owner/name", "spelling", "hf auth login", "directory"),
        ),
        (hub_errors.RevisionNotFoundError("404", response=_response(404)), ("at revision v9",)),
        (
            hub_errors.HfHubHTTPError("500 server error", response=_response(500)),
            ("could not be fetched", "500 server error", "network", "directory"),
        ),
        (hub_errors.LocalEntryNotFoundError("no local copy"), ("no local copy", "network")),
        (hub_errors.OfflineModeIsEnabled("offline mode"), ("offline mode", "network")),
        (httpx.ConnectError("no route to host"), ("no route to host", "network")),
        (OSError("disk on fire"), ("disk on fire",)),
        (hub_errors.HFValidationError("bad repo id"), ("bad repo id",)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_hub_refusals(error, words, monkeypatch, refused) -> None:
    def download(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    refused("owner/name", "owner/name", "to fix it", *words, revision="v9")


def test_hub_checkpoint(monkeypatch, bert, tmp_path) -> None:
    snapshot = bert.rename(tmp_path / ("c0ffee" * 6 + "abcd"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(snapshot))
    checkpoint = load("owner/name")
    assert (checkpoint.id, checkpoint.revision, checkpoint.path) == ("owner/name", snapshot.name, snapshot)


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
