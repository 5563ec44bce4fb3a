"""The report of what a Ray cluster costs; the measurement itself runs beside Ray, in tests/integrations."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import psutil
import pytest

from edge_embed_bench.published import bulk


def turn(bulk_seconds, ray_seconds, single=100, worker=120):
    memory = {"private": single * 10**6, "resident": 2 * single * 10**6}
    return {
        "bulk": {"texts": 100, "seconds": bulk_seconds},
        "single": {"texts": 100, "seconds": 20.0, **memory},
        "ray": {"texts": 100, "seconds": ray_seconds, "private": worker * 10**6, "resident": 1},
    }


def test_shares_are_those_of_one_round():
    document = {"rounds": [turn(10.0, 12.5), turn(20.0, 20.0), turn(30.0, 40.0)], "workers": 2}
    rows = {name: (value, goal) for name, value, goal in bulk.facts(document)}
    assert rows["2 workers / `encode` in bulk"] == ("0.80 (0.75 to 1.00)", "≥ 0.9")
    assert rows["private memory: a worker / one process"] == ("1.20", "≤ 1.3")
    document |= {"command": "c", "machine": "m", "model": "x.tflite", "texts": 100, "files": 8}
    assert "| 2 workers / `encode` in bulk | 0.80 (0.75 to 1.00) | ≥ 0.9 |" in bulk.markdown(document)


def test_a_round_without_a_worker_in_sight_has_no_memory(monkeypatch):
    monkeypatch.setattr(bulk, "SAMPLE_SECONDS", 60)
    own = psutil.Process()
    for process, seen in ((iter([own]), {"private", "resident"}), (iter([]), set())):
        with bulk.watched(lambda process=process: process) as peak:
            pass  # over before the second look
        assert set(peak) == seen
        assert all(peak.values())
    unseen = turn(10.0, 12.5, worker=500)
    del unseen["ray"]["private"], unseen["ray"]["resident"]
    both = dict(row[:2] for row in bulk.facts({"rounds": [turn(10.0, 12.5), unseen], "workers": 2}))
    assert both["private memory: a worker / one process"] == "1.20"
    assert not [name for name, *_ in bulk.facts({"rounds": [unseen], "workers": 2}) if "memory" in name]


def test_the_highest_memory_of_a_process_is_seen(monkeypatch):
    monkeypatch.setattr(bulk, "SAMPLE_SECONDS", 0.05)
    code = "data = b'x' * 80_000_000; print(flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    own = psutil.Process(process.pid)
    process.stdout.readline()  # both figures are read one after the other, so the process must not grow
    with bulk.watched(lambda: iter([own])) as peak:
        deadline = time.monotonic() + 60
        while not peak.get("private") and time.monotonic() < deadline:
            time.sleep(0.01)
        process.communicate("end")
    assert 80_000_000 <= peak["private"] <= peak["resident"]


def test_documents_go_to_files_by_turns(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    bulk.write_files(["a", "b", "c"], tmp_path, 2)
    assert [parquet.read_table(file)["text"].to_pylist() for file in sorted(tmp_path.iterdir())] == [
        ["a", "c"],
        ["b"],
    ]


def test_a_report_that_cannot_be_written_is_refused_before_anything(tmp_path, capsys):
    corpus = tmp_path / "a.txt"
    corpus.write_text(json.dumps("water"))
    words = ["model.tflite", "--corpus", str(corpus), "--output", str(tmp_path / "gone" / "a.json")]
    with pytest.raises(ValueError, match="gone"):
        bulk.main(words)
