"""`edge_embed bench --index` on a handful of texts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edge_embed.cli import main
from edge_embed_bench.retrieval import bench, workload
from edge_embed_bench.retrieval.report import cells, table


@pytest.fixture
def made(tmp_path):
    rng = np.random.default_rng(0)
    texts = [f"text number {n}" for n in range(40)]
    queries = ["which number", "what text"]
    vectors = (rng.normal(size=(40, 16)), rng.normal(size=(2, 16)))
    return workload.make(tmp_path / "work", texts, queries, vectors, 100, 12)


def test_workload_grows_by_noise_and_knows_its_neighbours(made):
    rows = np.asarray(made.vectors)
    assert rows.shape == (100, 12)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    again = np.sum(rows[40:80] * rows[:40], axis=1)
    assert (again > 0.97).all()
    assert (again < 0.99).all()
    scores = made.queries @ rows.T
    assert np.array_equal(made.truth, np.argsort(-scores, axis=1)[:, :10])


def test_engines_take_turns_and_ours_finds_all(made):
    rows = {row.engine: row for row in bench.measure(made, ["edge_embed-full", "edge_embed-low-hybrid"])}
    for row in rows.values():
        assert row.error is None
        assert len(row.samples) == 2
        assert row.file_bytes > 0
        assert min(row.build_seconds, row.open_seconds, row.first_seconds, *row.samples) > 0
    assert rows["edge_embed-full"].recall == 1.0
    assert rows["edge_embed-low-hybrid"].recall is None


def test_a_peer_that_is_not_there_is_a_row(made, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(made.directory))  # shadows the package in the measuring process
    (made.directory / "faiss.py").write_text("raise ImportError('not here')")
    (row,) = bench.measure(made, ["faiss-flat"])
    assert "faiss-cpu" in row.error
    assert "faiss-cpu" in table([vars(row)])
    assert "–" in cells(vars(row))  # noqa: RUF001 - the sign of the reports


def test_command_writes_its_reports(tiny_model, tmp_path, capsys):
    corpus, queries = tmp_path / "corpus.txt", tmp_path / "queries.txt"
    corpus.write_text("".join(f"the red planet {n}\n" for n in range(12)))
    queries.write_text("which planet is red\n")
    outputs = [tmp_path / "r.json", tmp_path / "r.md"]
    words = ["bench", tiny_model, "--index", "--corpus", corpus, "--queries", queries, "--chunks", "20"]
    assert main([*map(str, words), "--output", ",".join(map(str, outputs))]) == 0
    assert "edge_embed-full" in capsys.readouterr().out
    document = json.loads(outputs[0].read_text())
    assert {row["chunks"] for row in document["rows"]} == {20}
    assert document["machine"] in outputs[1].read_text()


@pytest.mark.parametrize("words", [["--index"], ["--index", "--corpus", "c.txt"]])
def test_index_needs_a_corpus_and_queries(tiny_model, words, capsys):
    assert main(["bench", str(tiny_model), *words]) == 2
    assert "--queries" in capsys.readouterr().err
