"""`make bench`: finished cells outlive an interrupt, and the reports carry the goals."""

from dataclasses import replace

import pytest

from edge_embed_bench.published import speed
from edge_embed_bench.records.record import CORPUS, FAILED, OURS, Throughput, read
from edge_embed_bench.reports import outputs as reports
from edge_embed_bench.run import session


@pytest.fixture
def run(tiny_model, tmp_path, monkeypatch):
    """`run("--option", …)` runs it over the tiny model, beside no peer unless one is named."""
    monkeypatch.setattr(speed, "REPETITIONS", {2048: 3})
    monkeypatch.setattr(speed, "REAL_MINILM", "no_such_package")
    monkeypatch.setattr(speed, "SENTENCE_LENGTHS", (16,))
    monkeypatch.setattr(speed.synthetic, "build", lambda *args, **kwargs: tiny_model)
    monkeypatch.setattr(speed.synthetic, "checkpoint", lambda name: tmp_path)
    monkeypatch.setattr(speed.peers, "reference_vectors", lambda *args, **kwargs: {})
    monkeypatch.setattr(speed.peers, "subjects", lambda *args, **kwargs: [])

    def call(*words):
        words = [str(word) for word in words]
        peers = [] if "--peers" in words else ["--peers", ","]
        return speed.main(["--threads", "1", "--recipes", "int8", "--results", str(tmp_path), *peers, *words])

    return call


def test_an_interrupt_keeps_the_finished_cells(run, tmp_path, monkeypatch, capsys):
    honest, asked = session.measure, []

    def measure(targets, axes, subjects, plan):
        asked.append(axes.lengths[0])
        if asked == [8, 16]:
            raise KeyboardInterrupt
        return honest(targets, axes, subjects, plan)

    monkeypatch.setattr(session, "measure", measure)
    words = ("--only", "gemma", "--lengths", "8,16")
    assert run(*words) == 130
    assert "are kept" in capsys.readouterr().err
    assert not list(tmp_path.glob("speed-*"))
    assert run(*words) == 0
    assert asked == [8, 16, 16]
    records = read(tmp_path / "speed-embeddinggemma-300m.json")
    assert [record.cell.length for record in records] == [8, 16]
    assert {path.suffix for path in tmp_path.glob("speed-*")} == {".json", ".md", ".png"}
    text = (tmp_path / "speed-embeddinggemma-300m.md").read_text("utf-8")
    assert "| litert-torch | median latency | 16 | ≥ 7" in text
    assert "not measured" in text
    assert "edge_embed_bench.published.speed --threads 1" in text
    assert run(*words, "--fresh") == 0
    assert asked[3:] == [8, 16]  # a finished run keeps nothing


def test_the_corpus_comes_in_parts(run, tmp_path, capsys):
    corpus = tmp_path / "c.jsonl"
    corpus.write_text('{"title": "Red", "text": "planet"}\n{"text": "rain fell"}\n' * 4, "utf-8")
    assert run("--only", "minilm", "--corpus", corpus) == 0, capsys.readouterr().err
    latency, whole = read(tmp_path / "speed-minilm.json")
    assert latency.cell.length == 16
    assert whole.kind == CORPUS
    assert whole.throughput.documents == 8
    assert len(whole.throughput.chunks_s) == speed.PARTS
    assert whole.throughput.documents_per_s == pytest.approx(8 / whole.throughput.total_s)


def test_merging_keeps_a_failure(record):
    part = Throughput("c", 4, 40, 1, 2.0, 0.1, [1.0, 0.5], 2.0, 20.0)
    done = record(kind=CORPUS, latency=None, throughput=part)
    whole = speed.merge([done, done, done]).throughput
    assert (whole.documents, whole.tokens, whole.truncated, whole.total_s) == (12, 120, 3, 6.0)
    assert whole.documents_per_s == 2.0
    dead = replace(done, throughput=None, status=FAILED, error="died")
    assert speed.merge([done, dead, done]).error == "died"


def test_bad_input(run, tmp_path, capsys):
    assert run("--peers", "tensorrt") == 2
    assert "onnxruntime-fp32" in capsys.readouterr().err
    assert run("--only", "bert") == 2
    assert "gemma, minilm" in capsys.readouterr().err
    assert run("--only", "gemma", "--lengths", "16,4096") == 2
    assert "4096 tokens" in capsys.readouterr().err


def test_the_results_directory_is_made(run, tmp_path, capsys):
    place = tmp_path / "new" / "results"
    assert run("--only", "gemma", "--lengths", "8", "--results", place) == 0, capsys.readouterr().err
    assert sorted(path.suffix for path in place.iterdir()) == [".json", ".md", ".png"]
    (tmp_path / "file").write_text("x")
    assert run("--only", "gemma", "--lengths", "8", "--results", tmp_path / "file" / "results") == 2
    assert "cannot make the directory" in capsys.readouterr().err
    assert set(reports.WRITERS) >= {".json", ".md", ".png"}
    assert OURS == "edge_embed"
