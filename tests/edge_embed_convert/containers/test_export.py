"""Export without Google's wheels: the pair, the cut of a graph, and what is refused."""

from __future__ import annotations

import errno
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edge_embed import Embedder
from edge_embed.cli import main
from edge_embed.errors import ConversionError, EdgeEmbedError, MissingExtraError, ParityError
from edge_embed.model_file.file import ModelFile
from edge_embed_convert.containers import pair, readback
from edge_embed_convert.containers.export import export
from edge_embed_convert.containers.split import split

GOLDEN = Path(__file__).parents[2] / "golden" / "schema1"
GEMMA, BERT = GOLDEN / "gemma.tflite", GOLDEN / "bert.tflite"


def _graph(path: Path) -> bytes:
    return path.read_bytes()[: ModelFile.open(path).manifest.graph.bytes]


def _signature(graph: bytes, name: str) -> Any:
    interpreter = Interpreter(model_content=graph)
    return interpreter.get_signature_runner(name)


def test_a_pair_is_a_plain_graph_and_a_tokenizer(tmp_path: Path) -> None:
    made = export(GEMMA, "pair", tmp_path / "gemma", bucket=32)
    files = {path.name: path.read_bytes() for path in made.path.iterdir()}
    (graph,) = (data for name, data in files.items() if name.endswith(".tflite"))
    assert b"PK\5\6" not in graph[-64:]
    assert list(Interpreter(model_content=graph).get_signature_list()) == ["embed_32"]
    assert "sentencepiece.model" in files
    assert set(ModelFile.open(GEMMA).manifest.licence.files) <= set(files)
    assert made.bytes == sum(map(len, files.values()))
    assert made.reading.cosine_min > 0.99999
    assert [path.name for path in tmp_path.iterdir()] == ["gemma"]


@pytest.mark.parametrize("path", [GEMMA, BERT], ids=["gemma", "bert"])
def test_both_halves_of_a_graph_are_the_whole(path: Path) -> None:
    manifest = ModelFile.open(path).manifest
    buckets = manifest.buckets
    parts = split(_graph(path), buckets)
    lookup = _signature(parts.embedder, "embedder")
    tokens = manifest.self_check.tokens
    rows = np.concatenate([lookup(tokens=np.array([i], np.int32))["embedding"] for i in tokens], axis=1)
    with Embedder(path) as model:
        expected = model.encode_tokens(tokens)
    for length in buckets:
        if length < len(tokens):
            continue
        # What lies beyond the text is whatever was in memory.
        embeddings = np.full((1, length, rows.shape[-1]), np.nan, np.float32)
        embeddings[:, : len(tokens)] = rows
        mask = (np.arange(length) < len(tokens)).astype(np.float32)[None]
        run = _signature(parts.encoder, f"encoder_{length}")
        vector = run(embeddings=embeddings, input_mask=mask)["embedding"][0]
        assert vector @ expected > 0.99999


def test_the_halves_are_no_larger_than_the_whole() -> None:
    graph = _graph(GEMMA)
    parts = split(graph, ModelFile.open(GEMMA).manifest.buckets)
    assert len(parts.embedder) + len(parts.encoder) < 1.1 * len(graph)


def test_a_graph_that_reads_the_ids_otherwise_is_not_cut(tiny_graph: bytes) -> None:
    with pytest.raises(ConversionError, match="cannot be split"):
        split(tiny_graph, [8])


@pytest.mark.parametrize("to", ["task", "pair"])
def test_a_wordpiece_model_is_refused_with_the_reason(to: str, tmp_path: Path, wheels: None) -> None:
    with pytest.raises(ConversionError, match="bert model") as refused:
        export(BERT, to, tmp_path / "out")
    assert "--to litertlm" in str(refused.value)
    assert ("keeps accents" in str(refused.value)) == (to == "task")
    assert not list(tmp_path.iterdir())


def test_a_pair_with_other_ids_is_refused(build_model: Any, sentencepiece_bpe: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    record = replace(sentencepiece_bpe[0], prefix_ids=[3])
    model = build_model(tmp_path / "other.tflite", kind="sentencepiece", tokenizer=record)
    with pytest.raises(ConversionError, match="fixed ids"):
        export(model, "pair", tmp_path / "out")


@pytest.fixture
def wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Google's wheels count as installed; what is tested ends before they are used."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def test_a_missing_wheel_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readback.importlib.util, "find_spec", lambda name: None)
    for to, wheel in (("task", "mediapipe"), ("litertlm", "litert-lm-api")):
        with pytest.raises(MissingExtraError, match=wheel) as refused:
            export(GEMMA, to, tmp_path / "out")
        assert "edge-embed[containers]" in str(refused.value)


def test_a_bucket_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="no bucket") as refused:
        export(GEMMA, "pair", tmp_path / "out", bucket=33)
    assert "16, 32, 72" in str(refused.value)


def test_a_directory_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for to in ("pair", "task"):
        with pytest.raises(ConversionError, match="there"):
            export(GEMMA, to, tmp_path / "there")
    with pytest.raises(ConversionError, match="no directory"):
        export(GEMMA, "task", tmp_path / "nowhere" / "out")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pair, "with_special_tokens", full)
    with pytest.raises(ConversionError, match="nothing was written") as refused:
        export(GEMMA, "pair", tmp_path / "out")
    assert "No space left" in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_other_vectors_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = pair.graph_of

    def wrong(model: ModelFile, bucket: int) -> bytes:
        graph = right(model, bucket)
        return graph[:-8192] + bytes(8192)  # weights of zero

    monkeypatch.setattr(pair, "graph_of", wrong)
    with pytest.raises(ParityError, match="nothing was saved"):
        export(GEMMA, "pair", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(b"text")
    with pytest.raises(EdgeEmbedError, match="not a model file"):
        export(tmp_path / "x.tflite", "pair", tmp_path / "out")


def test_the_command_prints_the_reading(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(GEMMA), "--to", "pair", "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "ai-edge-litert" in said
    assert "read it back" in said
    assert main(["export", str(GEMMA), "--to", "pair", "-o", str(tmp_path / "out")]) == 2
    assert "already exists" in capsys.readouterr().err
