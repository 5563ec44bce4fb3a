"""Whole files through the tiny model, as the command runs them."""

from __future__ import annotations

import importlib
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
from edge_embed.cli import main
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


def test_progress_says_how_many_rows_there_are_and_were(model, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    source, said = tmp_path / "a.parquet", []
    pq.write_table(pa.table({"text": [f"water {row}" for row in range(50)]}), source)

    class Stop(Exception):
        pass

    def stop(rows):
        said.append(rows)
        if len(said) == 2:
            raise Stop

    with pytest.raises(Stop):
        embed_file(model, str(source), tmp_path / "v.npy", part_size=10, advance=stop)
    begun = []
    embed_file(
        model,
        str(source),
        tmp_path / "v.npy",
        part_size=10,
        resume=True,
        begin=lambda *words: begun.append(words),
        advance=said.append,
    )
    assert begun == [(50, 20)]
    assert said == [10] * 5
    lines = tmp_path / "a.txt"
    lines.write_text("a\nb\n")
    embed_file(model, str(lines), tmp_path / "w.npy", begin=lambda *words: begun.append(words))
    assert begun[1] == (None, 0)


def test_resume_keeps_a_parquet_file_that_is_finished(model, tmp_path):
    pytest.importorskip("pyarrow.parquet")
    source, target = tmp_path / "a.jsonl", tmp_path / "v.parquet"
    source.write_text('{"text": "water"}\n{}\n{"text": "stone"}\n')
    first = embed_file(model, str(source), target, skip_bad=True)
    before = target.stat()
    again = embed_file(model, str(source), target, skip_bad=True, resume=True)
    assert target.stat().st_mtime_ns == before.st_mtime_ns
    assert (again.rows, again.embedded, again.bad, again.resumed) == (3, 2, 1, 3)
    assert again.bad_path == first.bad_path
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "a.jsonl",
        "v.parquet",
        "v.parquet.errors.jsonl",
    ]
    embed_file(model, str(source), target, skip_bad=True)  # without --resume it is done anew
    assert target.stat().st_ino != before.st_ino
    target.write_bytes(b"no parquet")
    assert embed_file(model, str(source), target, skip_bad=True, resume=True).resumed == 0


@pytest.mark.parametrize("kind", ["npy", "jsonl", "parquet"])
def test_a_full_disk_is_one_error_and_resume_goes_on(model, tiny_model, tmp_path, small_disk, kind, capsys):
    pytest.importorskip("pyarrow.parquet")
    rng, source, target = np.random.default_rng(0), tmp_path / "a.jsonl", small_disk / f"v.{kind}"
    lines = [{"text": f"water {row}", "more": rng.bytes(700).hex()} for row in range(1500)]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if kind == "npy":  # 48 KB
        (small_disk / "other").write_bytes(bytes((2 << 20) - (40 << 10)))
    command = [
        "embed",
        str(tiny_model),
        "--input",
        str(source),
        "--output",
        str(target),
        "--part-size",
        "100",
    ]
    assert main(command) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"edge_embed: error: cannot write {target}\n  got: No space left on device\n")
    assert len(errors.splitlines()) == 3
    assert not target.exists()
    (small_disk / "other").unlink()
    if kind == "parquet":  # until the end its parts and the whole are there at once
        subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    elif kind == "jsonl":
        subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert main([*command, "--resume", "--json"]) == 0
    assert 0 < json.loads(capsys.readouterr().out)["resumed"] < 1500
    vectors = np.load(target) if kind == "npy" else vectors_of(target)
    assert vectors.tobytes() == model.encode([line["text"] for line in lines]).tobytes()


def vectors_of(path):
    if path.suffix == ".jsonl":
        rows = map(json.loads, path.read_text("utf-8").splitlines())
    else:
        rows = importlib.import_module("pyarrow.parquet").read_table(path).to_pylist()
    return np.array([row["embedding"] for row in rows], np.float32)


def test_a_file_is_not_replaced_by_its_own_vectors(model, tmp_path):
    pytest.importorskip("pyarrow.parquet")
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "water"}\n')
    (tmp_path / "link.jsonl").symlink_to(source)
    for output in (source, tmp_path / "link.jsonl"):
        with pytest.raises(InputError, match="the input and the output are one file"):
            embed_file(model, str(source), output)
    assert source.read_text() == '{"text": "water"}\n'


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
