"""`edge_embed bench` as a program."""

import json
import os
import signal
import subprocess
import sys

import pytest

from edge_embed.default_model import NAME, PATH
from edge_embed_bench.records.record import read, to_json
from edge_embed_bench.targets import local
from edge_embed_bench.worker.process import package_roots

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
    lines = (tmp_path / "r.md").read_text("utf-8").splitlines()
    table = lines[next(i for i, line in enumerate(lines) if "| median ms |" in line) + 2 :]
    assert [line.split(" | ")[:2] for line in table[:4]] == [
        [f"| {batch}", str(length)] for length, batch in cells
    ]


def test_without_a_model_the_packages_own_is_measured(bench):
    result = bench("--lengths", "16", *QUICK, "--json")
    assert result.code == 0
    assert f"model: {NAME}" in result.err
    assert [r["model"]["file"] for r in result.records] == [PATH.name]


def test_a_list_may_be_repeated(bench, tiny_model):
    result = bench(tiny_model, "--lengths", "8", "--lengths", "16,32", *QUICK, "--json")
    assert [r["cell"]["length"] for r in result.records] == [8, 16, 32]


def test_reports_are_shown_again_together(bench, record, tmp_path):
    first, second, both = (tmp_path / name for name in ("a.json", "b.json", "both.md"))
    first.write_text(to_json([record(name="one")]), "utf-8")
    second.write_text(to_json([record(name="two", length=32)]), "utf-8")
    result = bench(first, second, "--output", both)
    assert result.code == 0, result.err
    for text in (result.out, both.read_text("utf-8")):
        assert "one.int8" in text
        assert "two.int8" in text
    assert len(bench(first, second, "--json").records) == 2


def test_corpus(bench, tiny_model, tmp_path):
    corpus = tmp_path / "c.jsonl"
    corpus.write_text(
        '{"text": "red planet", "title": "Mars"}\n{"text": "stone", "title": null}\n' * 3, "utf-8"
    )
    result = bench(tiny_model, "--corpus", corpus, "--titles-field", "title", "--limit", "5", *QUICK)
    assert result.code == 0, result.err
    assert "documents/s" in result.out
    assert "documents 5" in result.out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["MODEL", "--targets", "phone"], "expected: local"),
        (["MODEL", "--accelerators", "abacus"], "expected: cpu"),
        (["MODEL", "--lengths", "4096"], "expected: 3 to 32"),
        (["MODEL", "--lengths", "8,x"], "whole number"),
        (["MODEL", "--lengths", ","], "expected names"),
        (["MODEL", "--output", "x.doc"], "cannot tell what to write"),
        (["MODEL", "--corpus", "none.jsonl"], "none.jsonl"),
        (["MODEL", "--corpus", "x.txt", "--lengths", "8"], "determines the lengths"),
        (["none.tflite"], "none.tflite"),
        (["MODEL", "--lengths", "8", "16"], "--lengths 16,16"),
        (["MODEL", "x.json"], "cannot measure a report"),
        (["x.json", "--threads", "1"], "only shown again"),
        (["MODEL", "--limit", "3"], "add --corpus"),
        (["MODEL", "--checkpoint", "x"], "add --peers"),
        (["MODEL", "--threshold", "3"], "add --compare"),
        (["MODEL", "--quality", "x.json"], "add --output"),
        (["MODEL", "--quality", "x.json", "--output", "x.md"], "without a plot"),
        (["MODEL", "--quality", "x.json", "--output", "x.png", "--corpus", "c.txt"], "no plot of size"),
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


@pytest.mark.skipif(not hasattr(signal, "SIGTERM"), reason="signals of POSIX")
def test_a_termination_keeps_the_finished_records_and_leaves_nothing(tiny_model, tmp_path):
    out, scratch = tmp_path / "r.json", tmp_path / "scratch"
    scratch.mkdir()
    path = os.pathsep.join(map(str, package_roots()))
    words = ["--lengths", "8,16", "--repetitions", "2", "--warmup", "0", "--loads", "1", "--output", str(out)]
    # The second file's first cell never ends; the first one's is on disk by then.
    slow = [
        sys.executable,
        "-c",
        "import sys, time\nfrom edge_embed.cli import main\nfrom edge_embed_bench.targets import local\n"
        "honest = local.Local.measure\n"
        "def measure(self, subjects, cell, plan):\n"
        "    for record in honest(self, subjects, cell, plan):\n"
        "        if cell.length == 16: print('stuck', flush=True); time.sleep(600)\n"
        "        yield record\n"
        "local.Local.measure = measure\n"
        "sys.exit(main(sys.argv[1:]))",
    ]
    process = subprocess.Popen(
        [*slow, "bench", str(tiny_model), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(scratch)},
    )
    assert process.stdout.readline() == "stuck\n"
    process.send_signal(signal.SIGTERM)
    text, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert "ended by SIGTERM" in errors
    assert [r.cell.length for r in read(out)] == [8]
    assert "median ms" in text
    assert list(scratch.iterdir()) == []


def test_nothing_is_built_before_bad_options_are_found(bench, monkeypatch):
    monkeypatch.setattr("edge_embed_bench.run.bench.build", None)
    for words, problem in (
        (("--targets", "phone"), "unknown target"),
        (("--peers", "tensorrt"), "unknown peer"),
        (("--recipe", "int5"), "unknown recipe"),
        (("--recipe", "auto"), "no quality"),
        (("--corpus", "none.txt"), "none.txt"),
    ):
        result = bench("--synthetic", "minilm", *words)
        assert (result.code, problem in result.err) == (2, True), result.err


def test_our_own_failure_is_exit_code_1(bench, tiny_model):
    result = bench(tiny_model, "--lengths", "8", "--loads", "1", "--warmup", "100000000", "--timeout", "2")
    assert result.code == 1
    assert "no answer to" in result.out
