"""Containers through Google's own readers: they give the file's vectors, or nothing is saved."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed.cli import main
from edge_embed.errors import ConversionError, ParityError
from edge_embed.model_file.file import ModelFile, write_model_file
from edge_embed.model_file.manifest import Manifest, encode_vector
from edge_embed.model_file.probes import Probe
from edge_embed.names import MANIFEST_NAME, PROBES_NAME, UNIGRAM
from edge_embed_convert.containers import litertlm, task
from edge_embed_convert.containers.export import export
from edge_embed_convert.containers.readback import read_back

GOLDEN = Path(__file__).parents[1] / "golden" / "schema1"
GEMMA, BERT = GOLDEN / "gemma.tflite", GOLDEN / "bert.tflite"


@pytest.mark.parametrize("to", ["task", "litertlm", "pair"])
def test_every_container_gives_the_vectors_of_the_file(to: str, tmp_path: Path) -> None:
    made = export(GEMMA, to, tmp_path / f"gemma.{to}")
    assert made.reading.probes > 20
    assert made.reading.cosine_min > 0.99999
    assert [path.name for path in tmp_path.iterdir()] == [f"gemma.{to}"]  # no draft, no cache of a reader


def test_a_tokenizer_with_other_ids_runs_in_mediapipe(unigram_model: Path, tmp_path: Path) -> None:
    made = export(unigram_model, "task", tmp_path / "unigram.task", bucket=16)
    assert made.reading.probes == 2
    assert made.reading.cosine_min > 0.99999


@pytest.fixture
def unigram_model(
    tiny_graph: bytes, tiny_manifest: Manifest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A file with XLM-R's kind of tokenizer, which puts 0 before a text, 2 after it, and pads with 1."""
    path = tmp_path_factory.mktemp("unigram") / "model.tflite"
    data = (GOLDEN.parent / "graphemes.model").read_bytes()
    record = replace(
        tiny_manifest.tokenizer,
        file="tokenizer.model",
        kind=UNIGRAM,
        sha256=hashlib.sha256(data).hexdigest(),
        prefix_ids=[0],
        suffix_ids=[2],
        pad_id=1,
    )
    members = {MANIFEST_NAME: replace(tiny_manifest, tokenizer=record).to_json().encode(), record.file: data}
    write_model_file(path, tiny_graph, members)
    with Embedder(path, self_check=False) as model:
        check = replace(
            tiny_manifest.self_check,
            embedding=encode_vector(model.encode_tokens(tiny_manifest.self_check.tokens)),
        )
        # The graph takes 0 for padding, so a text's vector depends on how far it is padded: one bucket then.
        probes = [
            Probe(text, None, model.tokenize([text])[0], 16, encode_vector(model.encode(text)))
            for text in ("the red planet mars", "Größe straße")
        ]
    manifest = replace(tiny_manifest, tokenizer=record, self_check=check)
    members[MANIFEST_NAME] = manifest.to_json().encode()
    members[PROBES_NAME] = json.dumps({"schema_version": 1, "probes": list(map(asdict, probes))}).encode()
    write_model_file(path, tiny_graph, members)
    return path


def test_a_wordpiece_model_runs_in_litert_lm(tmp_path: Path) -> None:
    made = export(BERT, "litertlm", tmp_path / "bert.litertlm")
    assert made.reading.left_out == 0
    assert made.reading.cosine_min > 0.99999


@pytest.mark.parametrize("to", ["task", "litertlm"])
def test_a_bucket_is_all_that_the_reader_runs(to: str, tmp_path: Path) -> None:
    whole = export(GEMMA, to, tmp_path / f"whole.{to}").reading
    short = export(GEMMA, to, tmp_path / f"short.{to}", bucket=32)
    assert short.buckets == [32]
    assert 0 < short.reading.probes < whole.probes
    assert short.reading.probes + short.reading.left_out == whole.probes + whole.left_out


def test_a_task_carries_its_graph_aligned_and_the_licence(tmp_path: Path) -> None:
    export(GEMMA, "task", tmp_path / "gemma.task")
    with zipfile.ZipFile(tmp_path / "gemma.task") as archive:
        names = archive.namelist()
        info = archive.getinfo("model.tflite")
        start = info.header_offset + 30 + len(info.filename) + len(info.extra)
        assert start % task.ALIGNMENT == 0
        assert all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())
    assert {"model.tflite", "sentencepiece.model", *ModelFile.open(GEMMA).manifest.licence.files} == set(
        names
    )


@pytest.mark.parametrize("to", ["task", "litertlm"])
def test_other_ids_around_a_text_are_seen(to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = ModelFile.open(GEMMA).read("tokenizer.model")
    wrong = task if to == "task" else litertlm

    def swapped(model: ModelFile) -> bytes:
        from sentencepiece import sentencepiece_model_pb2 as schema

        proto = schema.ModelProto.FromString(right)
        spec = proto.trainer_spec
        for name, index in {"pad": 0, "bos": 1, "eos": 2}.items():  # the two ends the wrong way round
            proto.pieces[index].type = 3
            setattr(spec, f"{name}_id", index)
            setattr(spec, f"{name}_piece", proto.pieces[index].piece)
        proto.pieces[300].piece, proto.pieces[301].piece = proto.pieces[301].piece, proto.pieces[300].piece
        return proto.SerializeToString()

    monkeypatch.setattr(wrong, "with_special_tokens", swapped)
    with pytest.raises(ParityError, match="other vectors") as refused:
        export(GEMMA, to, tmp_path / f"gemma.{to}")
    assert "cosine" in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", ["task", "litertlm"])
def test_what_a_reader_cannot_run_is_not_saved(
    to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = task if to == "task" else litertlm
    monkeypatch.setattr(wrong, "with_special_tokens", lambda model: b"no tokenizer")
    with pytest.raises(ConversionError, match="cannot run the container") as refused:
        export(GEMMA, to, tmp_path / f"gemma.{to}")
    assert wrong.READER.distribution in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_container_that_was_copied_still_reads(tmp_path: Path) -> None:
    made = export(GEMMA, "litertlm", tmp_path / "gemma.litertlm")
    elsewhere = shutil.copy(made.path, tmp_path / "elsewhere.litertlm")
    with Embedder(GEMMA) as model:
        probes = ModelFile.open(GEMMA).probes()
        assert read_back(litertlm.READER, Path(elsewhere), model, probes[:3], 64).probes == 3


@pytest.mark.parametrize("path", [GEMMA, BERT], ids=["gemma", "bert"])
def test_mediapipe_reads_a_litertlm_as_well(path: Path, tmp_path: Path) -> None:
    made = export(path, "litertlm", tmp_path / "model.litertlm")
    with Embedder(path) as model:
        reading = read_back(litertlm.UNIVERSAL, made.path, model, ModelFile.open(path).probes(), 64)
    assert reading.cosine_min > 0.99999


def test_the_engine_leaves_no_trace_of_longer_texts(tmp_path: Path) -> None:
    made = export(GEMMA, "litertlm", tmp_path / "gemma.litertlm", bucket=72)
    probes = sorted(ModelFile.open(GEMMA).probes(), key=lambda probe: -len(probe.tokens))
    with Embedder(GEMMA) as model:
        # Longest first: the rows beyond a shorter text then hold those of a longer one.
        reading = read_back(litertlm.READER, made.path, model, probes, 64)
    assert reading.cosine_min > 0.99999


def test_the_command_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gemma.task"
    assert main(["export", str(GEMMA), "--to", "task", "--bucket", "32", "-o", str(out), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["buckets"] == [32]
    assert made["bytes"] == out.stat().st_size
    assert made["reading"]["reader"].startswith("mediapipe ")
    assert np.isclose(made["reading"]["cosine_min"], 1.0, atol=1e-4)
