"""Whole files through the tiny model, as the command runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed.bulk.job import Prompting, embed_file
from edge_embed.bulk.rows import Fields
from edge_embed.errors import InputError, TruncationWarning

TEXTS = [f"the red planet {number} " + "water " * (number % 40) for number in range(100)]


@pytest.fixture(scope="module")
def model(tiny_model):
    return Embedder(tiny_model, weight_cache="memory", overflow="truncate")


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text, "t": "T"}) + "\n" for text in TEXTS))
    return path


def test_parts_give_the_vectors_of_one_call_and_one_warning(model, source, tmp_path):
    target = tmp_path / "v.npy"
    with pytest.warns(TruncationWarning, match="of 100 texts were cut") as caught:
        summary = embed_file(model, str(source), target, part_size=7)
    assert len([w for w in caught if w.category is TruncationWarning]) == 1
    assert (summary.rows, summary.embedded, summary.bad, summary.resumed) == (100, 100, 0, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        assert np.load(target).tobytes() == model.encode(TEXTS).tobytes()


@pytest.mark.filterwarnings("ignore::edge_embed.errors.TruncationWarning")
def test_prompts_and_titles(model, source, tmp_path):
    target = tmp_path / "v.npy"
    embed_file(model, str(source), target, fields=Fields(title="t"), prompting=Prompting("document"))
    assert np.array_equal(np.load(target), model.encode_document(TEXTS, titles="T"))
    embed_file(model, str(source), target, prompting=Prompting("query"))
    assert np.array_equal(np.load(target), model.encode_query(TEXTS))


@pytest.mark.filterwarnings("ignore::edge_embed.errors.TruncationWarning")
def test_a_bad_row_stops_or_is_set_aside(model, source, tmp_path):
    lines = source.read_text().splitlines()
    lines[50] = "{}"
    source.write_text("\n".join(lines))
    target = tmp_path / "v.npy"
    with pytest.raises(InputError, match="line 51"):
        embed_file(model, str(source), target, part_size=10)
    summary = embed_file(model, str(source), target, part_size=10, resume=True, skip_bad=True)
    assert (summary.resumed, summary.rows, summary.embedded, summary.bad) == (50, 100, 99, 1)
    assert "line 51" in summary.bad_path.read_text()
    assert np.isnan(np.load(target)[50]).all()


def test_input_that_changed_is_not_continued(model, source, tmp_path):
    target = tmp_path / "v.jsonl"
    lines = source.read_text().splitlines()
    source.write_text("\n".join([*lines[:20], "{}"]))
    with pytest.raises(InputError, match="line 21"):
        embed_file(model, str(source), target, part_size=10)
    source.write_text("\n".join(lines))
    with pytest.raises(InputError, match="its input size was another"):
        embed_file(model, str(source), target, resume=True)
    with pytest.raises(InputError, match="stdin cannot be read again"):
        embed_file(model, "-", target, resume=True)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_loses_and_repeats_nothing(tiny_model, model, tmp_path, number):
    texts = [f"the red planet {number}" for number in range(4000)]
    source, target = tmp_path / "a.txt", tmp_path / "v.npy"
    source.write_text("\n".join(texts))
    words = [str(tiny_model), "--input", str(source), "--output", str(target), "--part-size", "20"]
    command = [sys.executable, "-m", "edge_embed", "embed", *words]
    record = tmp_path / ".v.npy.progress.json"
    for _ in range(3):
        resume = ["--resume"] if record.exists() else []
        before = json.loads(record.read_text())["rows"] if resume else 0
        process = subprocess.Popen([*command, *resume], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        while process.poll() is None and (
            not record.exists() or json.loads(record.read_text())["rows"] <= before
        ):
            time.sleep(0.002)
        process.send_signal(number)
        _, errors = process.communicate()
        if number == signal.SIGINT and process.returncode:
            assert b"--resume" in errors
    assert json.loads(record.read_text())["rows"] < 4000
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=True, env=os.environ)
    assert "wrote 4000 vectors" in done.stdout
    assert np.load(target).tobytes() == model.encode(texts).tobytes()
