"""The table of families: random checkpoints of every shape, rows that outlive an interrupt, the report."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest
import torch

from edge_embed_bench.published import families, families_report, family_sources
from edge_embed_bench.records.model import Model
from edge_embed_bench.worker.measure import Job
from edge_embed_convert.families import FAMILIES, family_named
from edge_embed_convert.source.checkpoint import load
from edge_embed_convert.source.reference import Reference
from edge_embed_convert.source.tokenizers import convert_tokenizer


def tiny(name: str, **changes):
    """A row of a family's tiny shape, with the special ids of its synthetic tokenizer."""
    family = family_named(name)
    ids = {key for key in family.tiny if key.endswith("_token_id")}
    return family_sources.random_source(
        family, changes={k: v for k, v in family.tiny.items() if k not in ids} | changes
    )


@pytest.mark.parametrize("name", [family.name for family in FAMILIES if not family.without_transformers])
def test_the_tokenizer_fits_the_configuration(name):
    source = tiny(name)
    checkpoint = load(source.checkpoint())
    assert checkpoint.family.name == name
    record = convert_tokenizer(checkpoint.transformer_path).record
    assert record.vocab_size <= checkpoint.encoder.vocab_size
    if checkpoint.config.get("pad_token_id") is not None:
        assert record.pad_id == checkpoint.config["pad_token_id"]
    given = [*record.prefix_ids, *record.suffix_ids]
    for key in ("bos_token_id", "eos_token_id"):
        assert checkpoint.config.get(key) in (None, *given) or name == "qwen3", key


def test_a_row_says_what_was_left_out():
    source = tiny("qwen3", num_hidden_layers=2)
    assert source.missing_table == (151669 - 600, 1024)
    cut = family_sources.random_source(family_named("qwen3"), layers=4)
    assert cut.layers == (4, 28)
    assert families_report.weights(families.head(cut)) == "random, 4 of 28 layers"


def test_a_real_checkpoint_replaces_the_random_one(tmp_path):
    source = tiny("bert").checkpoint()
    rows = family_sources.sources({"mine": source}, {})
    assert [row.name for row in rows if row.family.name == "bert"] == ["mine"]
    assert [row.real for row in rows if row.family.name == "mpnet"] == [False]
    assert {row.family.name for row in rows} == {family.name for family in FAMILIES}


@pytest.fixture
def peer_job(tiny_model):
    return lambda checkpoint: Job(str(tiny_model), str(checkpoint), "", 1, 64)


def test_sentence_transformers_runs_a_static_model(peer_job):
    torch_peer = importlib.import_module("edge_embed_bench.peers.torch").Float32()
    checkpoint = tiny("static").checkpoint()
    torch_peer.load(peer_job(checkpoint))
    texts = [[7, 8, 9], [10], [11, 12]]
    reference = Reference(load(checkpoint))
    wanted = np.stack([reference.embed_tokens(ids) for ids in texts])
    assert np.abs(torch_peer.embed(texts) - wanted).max() < 1e-6


def test_the_export_takes_the_last_token_of_a_text():
    from edge_embed_bench.peers.onnx_export import Encoder

    checkpoint = tiny("qwen3").checkpoint()
    ids, mask = torch.tensor([[9, 8, 7, 0], [9, 8, 7, 6]]), torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    with torch.inference_mode():
        found = Encoder(str(checkpoint)).eval()(ids, mask).numpy()
    reference = Reference(load(checkpoint))
    wanted = np.stack([reference.embed_tokens(ids) for ids in ([9, 8, 7], [9, 8, 7, 6])])
    assert np.abs(found - wanted).max() < 1e-5


@pytest.fixture
def run(tiny_model, tmp_path, monkeypatch):
    """`run("--only", …)` runs it over the tiny model for every row, beside no peer."""
    from edge_embed_bench.published import speed

    facts = {"difference": 2e-7, "peak_bytes": 10**9, "seconds": 1.0}
    checkpoint = tiny("bert", max_position_embeddings=64).checkpoint()
    made = families.Prepared(Model.open(tiny_model), checkpoint, facts)
    monkeypatch.setattr(families, "LENGTHS", (8, 16))
    monkeypatch.setattr(families, "prepare", lambda source: made)
    monkeypatch.setattr(speed, "REPETITIONS", {2048: 3})
    monkeypatch.setattr(speed.peers, "reference_vectors", lambda *args, **kwargs: {})
    monkeypatch.setattr(speed.peers, "subjects", lambda *args, **kwargs: [])

    def call(*words):
        return families.main(["--peers", ",", "--results", str(tmp_path / "out"), *map(str, words)])

    return call


def test_rows_come_as_they_are_finished_and_stay(run, tmp_path, monkeypatch, capsys):
    asked = []
    honest = families.measure

    def measure(options, source, made):
        asked.append(source.name)
        if asked == ["bert", "mpnet"]:
            raise KeyboardInterrupt
        return honest(options, source, made)

    monkeypatch.setattr(families, "measure", measure)
    assert run("--only", "bert,mpnet") == 130
    assert "is kept" in capsys.readouterr().err
    report = tmp_path / "out" / "families.json"
    assert [row["name"] for row in json.loads(report.read_text("utf-8"))["families"]] == ["bert"]
    assert run("--only", "mpnet") == 0, capsys.readouterr().err
    document = json.loads(report.read_text("utf-8"))
    assert [row["name"] for row in document["families"]] == ["bert", "mpnet"]
    text = (tmp_path / "out" / "families.md").read_text("utf-8")
    assert "| mpnet | all-mpnet-base-v2 | random | 2.0e-07 | 1, 1 | `int8` |" in text
    assert text == families_report.markdown(document)


def test_a_family_that_cannot_be_converted_is_a_row(run, tmp_path, monkeypatch, capsys):
    def refuse(source):
        raise families.InputError("no room")

    monkeypatch.setattr(families, "prepare", refuse)
    assert run("--only", "bert") == 1
    text = (tmp_path / "out" / "families.md").read_text("utf-8")
    assert "| bert | all-MiniLM-L6-v2 | random |  |" in text
    assert "- bert: no room" in text


def test_a_peer_that_fails_is_a_note():
    def record(engine, length, **changes):
        whole = {"engine": {"name": engine}, "cell": {"length": length}, "error": None, "delegate": None}
        return {**whole, "latency": {"processor_s": [0.001, 0.002, 0.009]}, "agreement": None, **changes}

    row = {**families.head(tiny("bert")), "recipe": "int8", "difference": 1e-7, "peak_bytes": 10**9}
    row |= {"command": "c", "file_bytes": 10**6, "released_file_bytes": 2 * 10**6, "exact_lengths": [8]}
    row["records"] = [
        record("edge_embed", 16, delegate={"partitions": 1}, latency={"processor_s": [0.001]}),
        record("onnxruntime-int8", 16, error="no such pooling", latency=None),
        record("onnxruntime-fp32", 16),
    ]
    document = {"families": [row], "peers": ["onnxruntime-fp32", "onnxruntime-int8"], "lengths": [16]}
    text = families_report.markdown({**document, "machine": "m", "threads": 1})
    assert "| bert | all-MiniLM-L6-v2 | 1.00 | 2.00 (2.00) | - |" in text
    assert "- bert, ONNX Runtime int8, at 16 tokens: no such pooling" in text
    assert not families_report.failed(row)


def test_options_that_cannot_be(run, capsys):
    assert run("--only", "gpt") == 2
    assert "modernbert" in capsys.readouterr().err
    assert run("--layers", "qwen3") == 2
    assert "NAME=VALUE" in capsys.readouterr().err
