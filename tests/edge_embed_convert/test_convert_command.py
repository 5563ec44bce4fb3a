"""`edge_embed convert` and `edge_embed verify`, and what is refused before PyTorch is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_embed.cli import main
from edge_embed_convert import job
from edge_embed_convert.pipeline import Conversion, convert


def test_cli_convert_and_verify(one_layer: Path, tmp_path: Path, capfd) -> None:
    target = tmp_path / "model.tflite"
    words = [
        "convert",
        str(one_layer),
        "-o",
        str(target),
        "--recipe",
        "fp32",
        "--buckets",
        "8,16",
        "--threads",
        "1",
    ]
    assert main([*words, "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert (report["path"], report["bytes"]) == (str(target), target.stat().st_size)
    assert report["buckets"] == [8, 16]
    assert report["parity"]["passed"]
    assert main(["verify", str(target), "--source", str(one_layer), "--threads", "1"]) == 0
    assert "the ones it was made from" in capfd.readouterr().out
    assert main(["verify", str(target), "--threads", "1"]) == 0


def test_cli_verify_against_other_weights(
    bert_file: Conversion, write_tiny_bert: Callable[..., Path], tmp_path: Path, capfd
) -> None:
    other = write_tiny_bert(tmp_path / "other", seed=9)
    assert main(["verify", str(bert_file.path), "--source", str(other), "--threads", "1", "--json"]) == 1
    report = json.loads(capfd.readouterr().out)
    assert report["same_weights"] is False
    assert not report["parity"]["passed"]


def test_cli_verify_against_another_checkpoint(
    bert_file: Conversion, write_tiny_bert: Callable[..., Path], tmp_path: Path, capfd
) -> None:
    other = write_tiny_bert(tmp_path / "other", hidden_size=32)
    assert main(["verify", str(bert_file.path), "--source", str(other), "--threads", "1"]) == 2
    assert "dimension" in capfd.readouterr().err


def test_cli_verify_knows_the_length_of_the_file(one_layer: Path, tmp_path: Path, capfd) -> None:
    """A file made with --max-tokens is verified without saying so again."""
    target = tmp_path / "short.tflite"
    convert(one_layer, target, recipe="fp32", max_tokens=12, num_threads=1)
    assert main(["verify", str(target), "--source", str(one_layer), "--threads", "1"]) == 0


def test_cli_refusals(strict: None, one_layer: Path, tmp_path: Path, capfd) -> None:
    assert main(["convert", str(tmp_path / "nothing"), "-o", str(tmp_path)]) == 2
    assert "no such checkpoint" in capfd.readouterr().err
    assert main(["convert", str(one_layer), "-o", str(tmp_path), "--recipe", "int9"]) == 2
    assert "unknown recipe" in capfd.readouterr().err
    assert main(["convert", str(one_layer), "-o", str(tmp_path), "--buckets", "8,x"]) == 2
    assert "8,x" in capfd.readouterr().err
    assert main(["convert", str(one_layer), "-o", str(tmp_path), "--buckets", ""]) == 2
    assert "list of buckets" in capfd.readouterr().err
    assert main(["convert", str(one_layer), "-o", str(tmp_path), "--threads", "1"]) == 1
    error = capfd.readouterr().err
    assert "does not agree with its source" in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_cli_interrupt(monkeypatch, one_layer: Path, tmp_path: Path, capfd) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "build", interrupted)
    assert main(["convert", str(one_layer), "-o", str(tmp_path)]) == 130
    assert "interrupted" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


# What is refused without PyTorch.

REFUSED_LATE = """
import sys, time
from edge_embed.cli import main
started = time.process_time()
code = main(sys.argv[1:])
print(time.process_time() - started, code, *sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"model_type": "t5"}, "model_type = 't5'"),
        ({"hidden_act": "swish"}, "hidden_act"),
        ({"hidden_size": None}, "hidden_size"),
    ],
)
@pytest.mark.parametrize("words", [[], ["--recipe", "auto", "--max-size", "1MB"]], ids=["fixed", "auto"])
def test_an_architecture_is_refused_without_loading_torch(
    changes, word, words, write_tiny_bert, edit, tmp_path: Path
) -> None:
    directory = write_tiny_bert(tmp_path / "tiny", num_hidden_layers=1)
    edit(directory / "config.json", **changes)
    result = subprocess.run(
        [sys.executable, "-c", REFUSED_LATE, "convert", str(directory), "-o", str(tmp_path), *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert word in result.stderr
    seconds, code, *modules = result.stdout.split()
    assert code == "2"
    assert not {"torch", "transformers", "litert_torch", "huggingface_hub", "safetensors"} & set(modules)
    assert float(seconds) < 1
