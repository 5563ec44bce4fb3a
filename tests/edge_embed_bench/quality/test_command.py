"""`edge_embed eval` and what it writes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_embed.default_model import NAME, PATH

pytest.importorskip("pytrec_eval")
pytest.importorskip("sklearn")

Run = Callable[..., Any]


def test_tables(run: Run, tiny_model: Path, copy_model: Path, sets: Any) -> None:
    result = run("eval", copy_model, tiny_model, "--data", *sets.all, "--resamples", 20)
    assert result.code == 0, result.err
    blocks = result.out.split("\n\n")
    assert len(blocks) == 4
    assert blocks[0].startswith("pairs (similarity, spearman)")
    header, source, copy = blocks[2].splitlines()[1:]
    assert header.split()[:3] == ["model", "dim", "score"]
    assert source.startswith("tiny.fp32.tflite")
    assert copy.split()[-5:-2] == ["1.000", "1.00000", "1.0000"]


def test_json(run: Run, tiny_model: Path, sets: Any) -> None:
    result = run("eval", tiny_model, "--data", sets.retrieval, "--resamples", 20, "--json")
    report = json.loads(result.out)
    assert report["schema_version"] == 1
    assert report["scores"][0]["metrics"].keys() == {"ndcg@10", "ndcg@1", "recall@10", "recall@100", "mrr@10"}
    assert "pytrec-eval-terrier" in report["versions"]
    assert report["command"] == "edge_embed eval tiny.fp32.tflite --data questions --resamples 20"


def test_without_a_model_the_packages_own_is_scored(run: Run, sets: Any) -> None:
    result = run("eval", "--data", sets.retrieval, "--resamples", 20, "--json")
    assert result.code == 0
    assert f"model: {NAME}" in result.err
    assert [score["model"] for score in json.loads(result.out)["scores"]] == [PATH.name]


def test_files(run: Run, tiny_model: Path, copy_model: Path, sets: Any, tmp_path: Path) -> None:
    names = [tmp_path / name for name in ("q.json", "q.md", "q.txt")]
    result = run(
        "eval",
        copy_model,
        "--source",
        tiny_model,
        "--data",
        *sets.all,
        "--dims",
        "8,4",
        "--resamples",
        20,
        "--output",
        ",".join(map(str, names)),
    )
    assert result.code == 0, result.err
    assert len(json.loads(names[0].read_text())["scores"]) == 16
    assert names[2].read_text() == result.out
    page = names[1].read_text()
    summary = page.split("## All sets")[1].split("##")[0].strip().splitlines()
    assert len(summary) == 6
    assert {line.count("|") for line in summary} == {8}
    assert page.count("\n## ") == 5


def test_plot(run: Run, tiny_model: Path, copy_model: Path, sets: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = [tmp_path / "q.png", tmp_path / "q.svg"]
    words = ["eval", tiny_model, copy_model, "--data", *sets.all, "--dims", "8,4", "--resamples", 20]
    assert run(*words, "--output", ",".join(map(str, files))).code == 0
    assert files[0].read_bytes().startswith(b"\x89PNG")
    assert b"</svg>" in files[1].read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "q.docx"], "q.docx"),
        (["--output", "nowhere/q.md"], "create the directory"),
        (["--dims", "8,eight"], "eight"),
        (["--dims", "4,4"], "different"),
        (["--dims", "9"], "1 to 8"),
        (["--resamples", "0"], "at least 1"),
        (["--source", "nowhere.tflite"], "nowhere.tflite"),
    ],
)
def test_bad_options(run: Run, words: list[str], message: str, tiny_model: Path, sets: Any) -> None:
    result = run("eval", tiny_model, "--data", sets.similarity, *words)
    assert result.code == 2
    assert message in result.err
    assert not result.out


def test_bad_data_names_file_and_line(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "s.tsv"
    file.write_text("sentence1\tsentence2\tscore\na\tb\tx\n")
    result = run("eval", tiny_model, "--data", file)
    assert result.code == 2
    assert "s.tsv, line 2" in result.err


def test_the_missing_extra_is_named(
    run: Run, tiny_model: Path, sets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("edge_embed_bench.quality.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pytrec_eval", None)
    result = run("eval", tiny_model, "--data", sets.similarity)
    assert result.code == 2
    assert "pip install 'edge-embed[quality]'" in result.err


def test_help_loads_nothing_heavy(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("scipy", "sklearn", "pytrec_eval", "numpy", "torch", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    result = run("eval", "--help")
    assert result.code == 0
    assert "BEIR" in result.out
