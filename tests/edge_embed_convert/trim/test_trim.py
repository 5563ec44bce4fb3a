"""`edge_embed trim`: the same ids and vectors for covered texts, a directory that converts, and bad input."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edge_embed.cli import main
from edge_embed.errors import CheckpointError, ConversionError, EdgeEmbedError, InputError
from edge_embed_convert.check import check
from edge_embed_convert.source.checkpoint import load
from edge_embed_convert.source.reference import Reference
from edge_embed_convert.source.tokenizers import convert_tokenizer
from edge_embed_convert.trim import trim as module
from edge_embed_convert.trim.trim import Trimmed, trim

TEXTS = [
    "The violinist tuned her instrument.",
    "A cat slept on the warm engine.",
    "Interest rates rose again.",
]
OTHERS = ["Der Bäcker an der Ecke öffnet früh.", "Le vieux pont de pierre."]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    rows = [{"text": text, "lang": "en"} for text in TEXTS] + [
        {"text": text, "lang": "xx"} for text in OTHERS
    ]
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return file


@pytest.fixture(scope="module", params=["gemma_checkpoint", "bert_checkpoint"])
def pair(
    request: pytest.FixtureRequest, texts: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Trimmed]:
    source = request.getfixturevalue(request.param)
    return source, trim(source, [str(texts)], tmp_path_factory.mktemp("trim") / "small", languages=["en"])


def test_covered_texts_keep_ids_and_vectors(pair: tuple[Path, Trimmed]) -> None:
    source, made = pair
    kept = json.loads((made.path / "trim.json").read_text("utf-8"))["kept"]
    assert made.rows == len(kept) < made.rows_before
    before, after = Reference(load(source)), Reference(load(made.path))
    for text in TEXTS:
        ids = before.tokenize(text)
        assert [kept[i] for i in after.tokenize(text)] == ids
        assert np.array_equal(after.embed_tokens(after.tokenize(text)), before.embed_tokens(ids))
    assert made.given["en"].covered == len(TEXTS)
    assert made.proved >= len(TEXTS)
    assert 0 < made.embedded <= made.proved


def test_the_directory_converts(pair: tuple[Path, Trimmed]) -> None:
    source, made = pair
    assert check(made.path).buckets == check(source).buckets
    kinds = [convert_tokenizer(place).record for place in (source, made.path)]
    assert kinds[0].kind == kinds[1].kind
    assert kinds[1].vocab_size == made.rows
    assert kinds[1].pad_id == kinds[0].pad_id == 0


@pytest.mark.parametrize("layout", ["sentence-transformers", "model2vec", "mapped"])
def test_a_static_model_keeps_its_vectors(
    layout: str, bert_tokenizer: Mapping[str, bytes], texts: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    source, rows, width = tmp_path / "static", 600, 16
    source.mkdir()
    (source / "tokenizer.json").write_bytes(bert_tokenizer["tokenizer.json"])
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.StaticEmbedding"}]
    (source / "modules.json").write_text(json.dumps(modules))
    table = torch.randn(rows, width, generator=torch.Generator().manual_seed(1))
    tensors = {"embedding.weight": table}
    if layout != "sentence-transformers":
        (source / "config.json").write_text(json.dumps({"model_type": "model2vec"}))
        tensors = {"embeddings": table, "weights": torch.linspace(0.1, 2.0, rows, dtype=torch.float64)}
    if layout == "mapped":
        tensors |= {"embeddings": table[:50], "mapping": torch.arange(rows) * 7 % 50}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, source / "model.safetensors")
    made = trim(source, [str(texts)], tmp_path / "small", languages=["en"])
    assert made.rows < made.rows_before == rows
    assert made.embedded > 0
    models = [SentenceTransformer(str(path), device="cpu") for path in (source, made.path)]
    before, after = (model.encode(TEXTS) for model in models)
    assert np.array_equal(before, after)
    assert check(made.path).buckets == check(source).buckets
    if layout == "mapped":
        assert len(load_file(made.path / "model.safetensors")["embeddings"]) <= 50


def test_ids_in_configurations_are_the_new_ones(
    write_tiny_bert: Callable[..., Path], texts: Path, tmp_path: Path
) -> None:
    source = write_tiny_bert(tmp_path / "bert", pad_token_id=0, sep_token_id=3, far_token_id=590)
    (source / "vocab.txt").write_text("stale\n")
    (source / "onnx").mkdir()
    config = json.loads((source / "tokenizer_config.json").read_text())
    config["added_tokens_decoder"] = {"4": {"content": "[MASK]"}}
    (source / "tokenizer_config.json").write_text(json.dumps(config))
    made = trim(source, [f"en={texts}"], tmp_path / "small")
    settings = json.loads((made.path / "config.json").read_text())
    assert settings["vocab_size"] == made.rows
    kept = json.loads((made.path / "trim.json").read_text())["kept"]
    assert kept[settings["far_token_id"]] == 590
    added = json.loads((made.path / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    assert kept[int(next(iter(added)))] == 4
    spec = json.loads((made.path / "tokenizer.json").read_text())
    assert len((made.path / "vocab.txt").read_text("utf-8").splitlines()) == len(spec["model"]["vocab"])
    assert not (made.path / "onnx").exists()


def test_prompts_are_covered(gemma_checkpoint: Path, texts: Path, tmp_path: Path) -> None:
    made = trim(gemma_checkpoint, [str(texts)], tmp_path / "small", languages=["en"], prompts=["§ "])
    kept = json.loads((made.path / "trim.json").read_text("utf-8"))["kept"]
    before, after = Reference(load(gemma_checkpoint)), Reference(load(made.path))
    for prompt in [*load(gemma_checkpoint).prompts.values(), "§ "]:
        for text in TEXTS:
            assert [kept[i] for i in after.tokenize(prompt + text)] == before.tokenize(prompt + text)


def test_a_sample_of_ones_own_is_measured(gemma_checkpoint: Path, texts: Path, tmp_path: Path) -> None:
    held = tmp_path / "held.txt"
    held.write_text("Soup of the day: 🍅\n" + TEXTS[0] + "\n", "utf-8")
    sources = [str(texts)]
    made = trim(gemma_checkpoint, sources, tmp_path / "small", held_out=[f"en={held}"])
    assert made.sample["en"].texts == 2
    assert made.sample["en"].covered >= 1
    assert set(made.given) == {"en", "xx"}


def test_a_tokenizer_that_would_change_is_not_saved(
    gemma_checkpoint: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = module.read_vocabulary

    def careless(spec: dict[str, Any]) -> Any:
        vocabulary = read(spec)
        vocabulary.needs = lambda index: (index,)  # pieces without the merges that make them
        return vocabulary

    monkeypatch.setattr(module, "read_vocabulary", careless)
    with pytest.raises(CheckpointError, match="cannot be trimmed exactly"):
        trim(gemma_checkpoint, [str(texts)], tmp_path / "small")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(
    bert_checkpoint: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copytree", full)
    with pytest.raises(ConversionError, match="nothing was written"):
        trim(bert_checkpoint, [str(texts)], tmp_path / "small")
    assert not list(tmp_path.iterdir())


def test_bad_input_is_one_clear_error(bert_checkpoint: Path, texts: Path, tmp_path: Path) -> None:
    empty, latin, plain = (tmp_path / name for name in ("empty.txt", "latin.txt", "plain.txt"))
    empty.write_text("\n \n")
    latin.write_bytes("Größe\n".encode("latin-1"))
    plain.write_text("The violinist\n")
    there = tmp_path / "there"
    there.mkdir()
    (there / "x").touch()
    new = tmp_path / "new"
    cases: list[tuple[type[EdgeEmbedError], str, dict[str, Any]]] = [
        (InputError, "there is no text", {"texts": [str(empty)]}),
        (InputError, "UTF-8", {"texts": [str(latin)]}),
        (InputError, "state their language", {"texts": [str(plain)], "languages": ["en"]}),
        (InputError, "requested languages", {"texts": [str(texts)], "languages": ["en", "ja"]}),
        (InputError, "no room", {"texts": [str(texts)], "max_tokens": 3}),
        (ConversionError, "already exists", {"texts": [str(texts)], "output": there}),
        (ConversionError, "no directory", {"texts": [str(texts)], "output": new / "deeper"}),
        (InputError, "nowhere", {"texts": [str(tmp_path / "nowhere.txt")]}),
    ]
    for kind, said, options in cases:
        arguments = {"output": new} | options
        with pytest.raises(kind, match=said):
            trim(bert_checkpoint, **arguments)
    assert not new.exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_command_prints_the_coverage(
    bert_checkpoint: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["trim", str(bert_checkpoint), "--texts", str(texts), "--held-out", str(texts)]
    assert main([*words, "--languages", "en,xx", "-o", str(tmp_path / "one")]) == 0
    said = capsys.readouterr().out
    assert "5 of 5 texts are covered" in said
    assert "100.0%" in said
    assert main([*words, "-o", str(tmp_path / "two"), "--max-tokens", "300", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["rows"] <= 300
    assert made["sample"]["en"]["texts"] == 3


def test_damaged_weights_and_a_disk_that_fills_are_said(
    write_tiny_bert: Callable[..., Path], texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    from edge_embed_convert.trim import checkpoint

    source = write_tiny_bert(tmp_path / "bert")

    def full(*arguments: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with pytest.raises(ConversionError, match="nothing was written"):
            trim(source, [str(texts)], tmp_path / "small")
    (source / "model.safetensors").write_bytes(b"version https://git-lfs")
    with pytest.raises(CheckpointError, match="cannot be read"):
        trim(source, [str(texts)], tmp_path / "small")
    assert [path.name for path in tmp_path.iterdir()] == ["bert"]


def test_other_copies_of_the_weights_are_left_out(
    write_tiny_bert: Callable[..., Path], texts: Path, tmp_path: Path
) -> None:
    source = write_tiny_bert(tmp_path / "bert")
    torch.save(load_file(source / "model.safetensors"), source / "pytorch_model.bin")
    (source / "pytorch_model-00001-of-00002.bin").write_bytes(b"old")
    made = trim(source, [str(texts)], tmp_path / "small", languages=["en"])
    weights = [file.name for file in made.path.rglob("*") if file.suffix in (".bin", ".safetensors")]
    assert weights == ["model.safetensors"]


def test_a_word_list_of_another_tokenizer_is_left_out(
    gemma_checkpoint: Path, texts: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(gemma_checkpoint, tmp_path / "gemma")
    (source / "vocab.txt").write_text("stale\n")
    made = trim(source, [str(texts)], tmp_path / "small", languages=["en"])
    assert not (made.path / "vocab.txt").exists()


def test_an_output_within_the_source_is_refused(
    write_tiny_bert: Callable[..., Path], texts: Path, tmp_path: Path
) -> None:
    source = write_tiny_bert(tmp_path / "bert")
    before = sorted(source.rglob("*"))
    with pytest.raises(ConversionError, match="lies in the checkpoint"):
        trim(source, [str(texts)], source / "small", languages=["en"])
    assert sorted(source.rglob("*")) == before
