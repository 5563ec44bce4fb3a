"""Every output of the same records."""

import csv
import io
import json
from dataclasses import replace

import pytest

from edge_embed.errors import InputError, MissingExtraError
from edge_embed_bench import columns, outputs, plots
from edge_embed_bench.record import FAILED, read
from edge_embed_bench.report_csv import to_csv
from edge_embed_bench.report_html import to_html
from edge_embed_bench.report_markdown import to_markdown
from edge_embed_bench.report_table import to_table
from edge_embed_bench.scores import read_scores


@pytest.fixture
def records(record):
    good = record()
    bare = record(length=32, storage=None, not_measured={"storage": "nobody | knows"})
    nothing = dict.fromkeys(
        ("load", "latency", "text_latency", "memory", "text_memory", "storage", "agreement")
    )
    failed = record(length=64, status=FAILED, error="died: SIGSEGV | <b>", delegate=None, **nothing)
    return [good, bare, failed]


def test_an_emulated_record_is_marked_in_every_form(record):
    machine = replace(record().machine, emulator="qemu-aarch64 7.2 -cpu cortex-a76")
    records = [record(machine=machine), record(length=32, machine=machine)]
    for text in (to_table(records), to_markdown(records), to_csv(records), to_html(records)):
        assert "qemu-aarch64 7.2 -cpu cortex-a76" in text
    assert "emulated by" not in to_table([record()])


def test_table(records):
    text = to_table(records)
    head = next(line for line in text.splitlines() if "median ms" in line)
    row = next(line for line in text.splitlines() if line.startswith("tiny.int8"))
    assert row.index("11") > 0
    assert "A CPU" in text
    assert "threads 2, batch 1" in text
    assert "failed: died: SIGSEGV" in text
    assert "not measured: storage of tiny.int8 (nobody | knows)" in text
    assert "engine" not in head


def test_what_was_not_measured_is_never_zero(records):
    failed = next(line for line in to_table(records).splitlines() if "SIGSEGV" in line)
    assert columns.UNKNOWN in failed
    assert " 0 " not in failed


def test_synthetic_weights_are_said_everywhere(record):
    fake = record()
    fake = replace(fake, model=replace(fake.model, synthetic=True))
    for text in (to_table([fake]), to_markdown([fake]), to_csv([fake])):
        assert "synthetic" in text
    assert "random weights" in to_markdown([fake])


def test_csv_is_in_seconds_and_bytes(records):
    rows = list(csv.DictReader(io.StringIO(to_csv(records))))
    assert float(rows[0]["median_s"]) == pytest.approx(0.011)
    assert rows[0]["file_bytes"] == "24000000"
    assert rows[1]["file_bytes"] == ""
    assert rows[2]["status"].startswith("failed")


def test_markdown_carries_command_machine_and_versions(records):
    text = to_markdown(records)
    for part in ("`edge_embed bench x.tflite`", "A CPU", "avx2", "edge-embed 1", "SIGSEGV \\| &lt;b>"):
        assert part in text
    widths = {line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_files_by_their_ending(records, tmp_path):
    paths = [tmp_path / name for name in ("a.json", "a.csv", "a.md")]
    outputs.check_outputs(paths)
    outputs.write(paths, records[:1])
    outputs.write(paths, records)
    assert read(paths[0]) == records
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.json", "a.md"]


def test_plots_and_page(records, tmp_path):
    pytest.importorskip("matplotlib")
    paths = [tmp_path / "a.html", tmp_path / "a.png"]
    outputs.check_outputs(paths)
    outputs.write(paths, records, {"tiny.tflite": 0.8})
    page = paths[0].read_text("utf-8")
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    assert "data:image/png;base64," in page
    assert "SIGSEGV | &lt;b&gt;" in page
    assert "http" not in page
    outputs.write(paths, records[2:])  # nothing to plot is no reason to fail


def test_what_is_plotted(records):
    assert plots.latency(records) == {"tiny.int8": [(16, pytest.approx(11)), (32, pytest.approx(11))]}
    assert plots.memory(records) == {"tiny.int8": [(16, 90), (32, 90)]}
    assert plots.size_and_quality(records, {"tiny.tflite": 0.8, "other": 1}) == {"tiny.int8": [(24, 0.8)]}


def test_plots_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"edge-embed\[bench\]"):
        outputs.check_outputs([tmp_path / "a.png"])


def test_scores_of_an_evaluation(tmp_path):
    path = tmp_path / "eval.json"
    score = {"model": "tiny.int8", "data": "sts", "dimension": 8, "value": 0.6}
    rows = [score, score | {"dimension": 4, "value": 0.1}, score | {"data": "scifact", "value": 0.8}]
    path.write_text(json.dumps({"scores": rows}))
    assert read_scores(path) == {"tiny.int8": pytest.approx(0.7)}


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"scores": [{"model": 3}]}'])
def test_scores_that_are_none(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match="no scores"):
        read_scores(tmp_path / "x.json")
    with pytest.raises(InputError, match="cannot read"):
        read_scores(tmp_path / "none.json")


def test_outputs_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match=r"(?s)\.doc.*\.json"):
        outputs.check_outputs([tmp_path / "a.doc"])
    with pytest.raises(InputError, match="cannot be written"):
        outputs.check_outputs([tmp_path / "none" / "a.json"])
