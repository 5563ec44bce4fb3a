"""Every output of the same records."""

import csv
import io
import json
from dataclasses import replace

import pytest

from edge_embed.errors import InputError, MissingExtraError
from edge_embed_bench.records.record import CORPUS, FAILED, OURS, EngineFacts, Throughput, read
from edge_embed_bench.reports import columns, plots
from edge_embed_bench.reports import outputs as reports
from edge_embed_bench.reports.csv import to_csv
from edge_embed_bench.reports.html import to_html
from edge_embed_bench.reports.markdown import to_markdown
from edge_embed_bench.reports.quality import read_scores
from edge_embed_bench.reports.table import to_table


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
    row = next(line for line in text.splitlines() if line.endswith("ok"))
    assert " 11 " in row
    assert "p95 ms" not in head
    assert "A CPU" in text
    assert "threads 2, batch 1" in text
    assert "failed: died: SIGSEGV" in text
    assert "not measured: storage of tiny.int8 (nobody | knows)" in text
    assert "engine" not in head


def test_short_tables_answer_what_is_asked_first(record):
    text = to_table([record(), record(length=32)])
    head = next(line for line in text.splitlines() if "median ms" in line)
    assert head.split("  ") == ["tokens", "median ms", "peak MB", "file MB", "cosine to fp32"]
    assert len([line for line in text.splitlines() if "median ms" in line]) == 1
    for wide in (to_table([record()], full=True), to_markdown([record()], full=True)):
        for title in ("load cold ms", "p95 ms", "from text ms", "RSS MB", "partitions"):
            assert title in wide
            assert title not in text


def test_what_was_not_measured_is_never_zero(records):
    failed = next(line for line in to_table(records).splitlines() if "SIGSEGV" in line)
    assert columns.UNKNOWN in failed
    assert " 0 " not in failed


def test_synthetic_weights_are_said_everywhere(record):
    fake = record()
    fake = replace(fake, model=replace(fake.model, synthetic=True))
    for text in (to_table([fake]), to_markdown([fake]), to_csv([fake]), to_html([fake])):
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
    assert len(widths) == 1  # one table


def test_files_by_their_ending(records, tmp_path):
    paths = [tmp_path / name for name in ("a.json", "a.csv", "a.md")]
    reports.check_outputs(paths)
    reports.write(paths, records[:1])
    reports.write(paths, records)
    assert read(paths[0]) == records
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.json", "a.md"]


def test_plots_and_page(records, tmp_path):
    pytest.importorskip("matplotlib")
    paths = [tmp_path / name for name in ("a.html", "a.png", "a.svg", "a.pdf")]
    reports.check_outputs(paths)
    reports.write(paths, records, {"tiny.tflite": 0.8})
    page = paths[0].read_text("utf-8")
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    assert paths[3].read_bytes().startswith(b"%PDF")
    assert "data:image/svg+xml;base64," in page
    assert "SIGSEGV | &lt;b&gt;" in page
    assert "http" not in page
    reports.write(paths, records[2:])  # nothing to plot is no reason to fail
    before = paths[0].read_text("utf-8")
    reports.write(paths, records, plots=False)
    assert paths[0].read_text("utf-8") == before


def test_what_is_plotted(records):
    (name, (short, long)), *others = plots.latency(records).items()
    assert (name, others, short.x, long.x) == ("tiny.int8", [], 16, 32)
    assert (short.y, short.high) == (pytest.approx(11), pytest.approx(11.9))
    assert plots.memory(records) == {"tiny.int8": [plots.Point(16, 90), plots.Point(32, 90)]}
    scores = {"tiny.tflite": 0.8, "other": 1}
    assert plots.size_and_quality(records, scores) == {"tiny.int8": [plots.Point(24, 0.8)]}


def test_what_differs_is_in_the_name_and_nothing_else(record):
    one = record()
    two = replace(one, cell=replace(one.cell, threads=4, accelerator="gpu"))
    assert list(plots.latency([one, two])) == [
        "tiny.int8, local/cpu, threads 2",
        "tiny.int8, local/gpu, threads 4",
    ]
    board = replace(one, machine=replace(one.machine, model="A Board"))
    assert list(plots.memory([one, board])) == ["tiny.int8, A CPU", "tiny.int8, A Board"]
    again = replace(one, run=replace(one.run, started="2026-02-02"))
    assert list(plots.memory([one, again]))[1] == "tiny.int8, 2026-02-02"


def test_two_builds_of_one_model_keep_their_rows_and_lines_apart(record):
    one = record()
    two = replace(one, model=replace(one.model, file="new.tflite", sha256="1" * 64))
    same_name = replace(one, model=replace(one.model, sha256="2" * 64))
    assert list(plots.latency([one, two])) == ["tiny.tflite", "new.tflite"]
    assert list(plots.latency([one, same_name])) == ["tiny.tflite 00000000", "tiny.tflite 22222222"]
    for text in (to_table([one, two]), to_markdown([one, two]), to_html([one, two])):
        assert "new.tflite" in text
    assert "file hash" in to_table([one, same_name])
    assert "tiny.tflite" not in to_table([one])


def peer(record, name, samples, **changes):
    return record(samples, engine=EngineFacts(name, {name: "1"}, {}), delegate=None, **changes)


def test_many_subjects_at_many_lengths_have_a_summary(record):
    rows = [record(), peer(record, "slow", [0.05] * 3), record(length=32)]
    latency, memory = columns.summaries(rows)
    assert (latency.title, latency.lengths) == ("Median latency, ms", [16, 32])
    assert latency.rows == [
        ("tiny.int8", [pytest.approx(11), pytest.approx(11)]),
        ("slow", [pytest.approx(50), None]),
    ]
    assert [latency.leads(row) for _, row in latency.rows] == [[True, True], [False, False]]
    close = columns.Summary("", [16], [("a", [10.0]), ("b", [10.4]), ("c", [10.6]), ("d", [None])])
    assert [close.leads(row) for _, row in close.rows] == [[True], [True], [False], [False]]
    assert memory.rows[0] == ("tiny.int8", [90, 90])
    assert f"| slow | 50 | {columns.UNKNOWN} |" in to_markdown(rows)
    assert "| tiny.int8 | **11** | **11** |" in to_markdown(rows)
    assert 'class="best">11<' in to_html(rows)
    assert columns.summaries(rows[:2]) == columns.summaries([rows[0], rows[2]]) == []


def test_a_failed_record_is_a_row_of_one_table(records):
    speed, memory = columns.tables(records)
    assert [r.cell.length for r in speed.rows] == [16, 32, 64]
    assert [r.cell.length for r in memory.rows] == [16, 32]
    (short,) = columns.tables(records, full=False)
    assert [r.cell.length for r in short.rows] == [16, 32, 64]
    assert ("ran on", "CPU (XNNPACK)") in memory.shared


def test_a_picture_of_everything(record, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")
    whole = Throughput("c", 10, 100, 0, 10 / 31, 0.1, [1.0], 31.0, 310.0)
    fake = record()
    rows = [
        replace(fake, model=replace(fake.model, synthetic=True)),
        record(length=32),
        peer(record, "slow", [0.05] * 3),
        replace(fake, kind=CORPUS, cell=replace(fake.cell, length=0), latency=None, throughput=whole),
    ]

    def words_of(*arguments):
        return plots.draw(*arguments, form="svg").decode("utf-8")  # with its words as words

    text = words_of(rows, {"tiny.tflite": 0.8})
    for words in ("tokens per text", "ms, log scale", "MB", "documents/s", "slow", "A CPU", "random weights"):
        assert words in text
    assert "does not begin at zero" in text
    one_length = words_of([fake, rows[2]])
    assert "Median latency, 16 tokens" in one_length
    assert OURS not in one_length
    assert "no record has a figure" in words_of([])


def test_plots_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"edge-embed\[bench\]"):
        reports.check_outputs([tmp_path / "a.png"])


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
        reports.check_outputs([tmp_path / "a.doc"])
    with pytest.raises(InputError, match="cannot be written"):
        reports.check_outputs([tmp_path / "none" / "a.json"])
