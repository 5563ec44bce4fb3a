"""`edge_embed bench` as a program."""

import json

import pytest

from edge_embed_bench.record import read
from edge_embed_bench.targets import local

QUICK = ("--repetitions", "2", "--warmup", "0", "--loads", "1", "--threads", "1")


def test_lists_form_a_matrix(bench, tiny_model, tmp_path):
    out = tmp_path / "r.json"
    result = bench(
        tiny_model,
        "--lengths",
        "8,16",
        "--batch",
        "1,2",
        *QUICK,
        "--json",
        "-o",
        f"{out},{tmp_path / 'r.md'}",
    )
    assert result.code == 0, result.err
    cells = [(r["cell"]["length"], r["cell"]["batch"]) for r in result.records]
    assert cells == [(8, 1), (16, 1), (8, 2), (16, 2)]
    assert json.loads(out.read_text("utf-8"))["records"] == result.records
    assert all(
        r["run"]["command"].startswith("edge_embed") and len(r["model"]["sha256"]) == 64
        for r in result.records
    )
    assert (tmp_path / "r.md").read_text("utf-8").count("| edge_embed |") == 4


def test_corpus(bench, tiny_model, tmp_path):
    corpus = tmp_path / "c.jsonl"
    corpus.write_text(
        '{"text": "red planet", "title": "Mars"}\n{"text": "stone", "title": null}\n' * 3, "utf-8"
    )
    result = bench(tiny_model, "--corpus", corpus, "--titles-field", "title", "--limit", "5", *QUICK)
    assert result.code == 0, result.err
    assert "documents/s" in result.out
    assert " 5 " in result.out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "nothing to measure"),
        (["MODEL", "--targets", "phone"], "expected: local"),
        (["MODEL", "--accelerators", "abacus"], "expected: cpu"),
        (["MODEL", "--lengths", "4096"], "expected: 3 to 32"),
        (["MODEL", "--lengths", "8,x"], "whole number"),
        (["MODEL", "--lengths", ","], "expected names"),
        (["MODEL", "--output", "x.doc"], "cannot tell what to write"),
        (["MODEL", "--corpus", "none.jsonl"], "none.jsonl"),
        (["MODEL", "--corpus", "x.txt", "--lengths", "8"], "lengths of its own"),
        (["none.tflite"], "none.tflite"),
    ],
)
def test_bad_input(bench, tiny_model, words, problem):
    result = bench(*[tiny_model if word == "MODEL" else word for word in words])
    assert result.code == 2
    assert not result.out
    assert problem in result.err


def test_an_empty_corpus(bench, tiny_model, tmp_path):
    (tmp_path / "c.jsonl").write_text("")
    assert "no documents" in bench(tiny_model, "--corpus", tmp_path / "c.jsonl").err


def test_an_interrupt_keeps_the_finished_records(bench, tiny_model, tmp_path, monkeypatch):
    honest = local.Local.measure

    def measure(self, subjects, cell, plan):
        if cell.length == 16:
            raise KeyboardInterrupt
        return honest(self, subjects, cell, plan)

    monkeypatch.setattr(local.Local, "measure", measure)
    out = tmp_path / "r.json"
    result = bench(tiny_model, "--lengths", "8,16,32", *QUICK, "--output", out)
    assert result.code == 130
    assert [r.cell.length for r in read(out)] == [8]
    assert "median ms" in result.out


def test_our_own_failure_is_exit_code_1(bench, tiny_model):
    result = bench(tiny_model, "--lengths", "8", "--loads", "1", "--warmup", "100000000", "--timeout", "2")
    assert result.code == 1
    assert "no answer to" in result.out
