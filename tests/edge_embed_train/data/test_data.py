"""Reading rows, tables and batches."""

from __future__ import annotations

import errno
import gzip
import json
import lzma
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_embed.errors import InputError, TrainingError
from edge_embed_train.data import (
    MixtureBatchSampler,
    Source,
    build_table,
    dirichlet_mixtures,
    proportions,
    read_rows,
)
from edge_embed_train.data.sources import Row
from edge_embed_train.data.tables import write_table

from .rows import PAIRS, nothing, write


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.xz", ".jsonl.gz"])
def test_rows_are_read_from_every_kind_of_file(ending: str, tmp_path: Path) -> None:
    triple = {"query": "a", "positive": "b", "negative": "c"}
    path = write(tmp_path / f"data{ending}", [triple, "", {**triple, "negatives": ["x"], "negative": "d"}])
    rows = list(read_rows(Source(path=path)))
    assert [row.texts for row in rows] == [("a", "b", "c"), ("a", "b", "d")]
    assert [r.texts for r in read_rows(Source(path=path, texts_only=True, limit=4))] == [
        ("a",),
        ("b",),
        ("c",),
        ("a",),
    ]


def test_filters_columns_and_limits(tmp_path: Path) -> None:
    records = [*PAIRS, {"task": "text", "text": "alone"}, {"task": "x", "question": "?", "positive": "!"}]
    path = write(tmp_path / "data.jsonl", records)
    assert len(list(read_rows(Source(path=path, where={"task": ["qa", "none"]})))) == 9
    assert len(list(read_rows(Source(path=path, where={"task": "qa"}, limit=4)))) == 4
    every_third = read_rows(Source(path=path, where={"task": "qa"}, every=3))
    wanted = [each["anchor"] for each in PAIRS if each["task"] == "qa"][::3]
    assert [row.query for row in every_third] == wanted
    for wrong in ({"every": 0}, {"limit": 0}, {"limit": -5}):
        with pytest.raises(InputError, match=f"`{next(iter(wrong))}` is too small"):
            list(read_rows(Source(path=path, **wrong)))
    rows = list(read_rows(Source(path=path, where={"task": "x"}, columns={"query": "question"})))
    assert rows[0].texts == ("?", "!")


@pytest.mark.parametrize("columns", [{"question": "query"}, {"positive": 3}, {"positive": ["a", "b"]}])
def test_columns_that_cannot_be_meant_are_refused(columns: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", PAIRS)
    with pytest.raises(InputError, match="columns"):
        list(read_rows(Source(path=path, columns=columns)))


@pytest.mark.parametrize("name", ["negative", "negatives"])
def test_negatives_may_be_a_list(name: str, tmp_path: Path) -> None:
    pair = {"query": "a", "positive": "b"}
    path = write(tmp_path / "data.jsonl", [{**pair, name: ["c", "d"]}, {**pair, name: ["", "e"]}])
    assert [row.texts for row in read_rows(Source(path=path))] == [("a", "b", "c"), ("a", "b", "e")]
    renamed = write(tmp_path / "renamed.jsonl", [{**pair, "hard": ["c"]}])
    assert next(read_rows(Source(path=renamed, columns={name: "hard"}))).negative == "c"


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.xz", ".jsonl.gz"])
def test_a_byte_order_mark_is_no_text(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"data{ending}", ["\ufeff" + json.dumps({"text": "a"}), {"text": "b"}])
    assert [row.query for row in read_rows(Source(path=path))] == ["a", "b"]


def test_a_data_set_of_the_hub_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*names: Any, **options: Any) -> Any:
        asked.append((names, options))
        if names[0] == "no/such":
            raise FileNotFoundError("no such data set")
        return iter({"question": f"q {i}", "positive": f"p {i}"} for i in range(10**12))

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    source = Source(hub="some/pairs", subset="en", columns={"query": "question"}, limit=3)
    assert [row.texts for row in read_rows(source)] == [(f"q {i}", f"p {i}") for i in range(3)]
    assert asked == [(("some/pairs", "en"), {"split": "train", "revision": None, "streaming": True})]
    with pytest.raises(InputError, match="no/such"):
        list(read_rows(Source(hub="no/such")))
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: iter([{"text": "a"}, {"text": "\udc00"}]))
    with pytest.raises(InputError, match="row 2 of the hub's data set some/texts"):
        list(read_rows(Source(hub="some/texts")))


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "no rows"),
        (["{"], "not a JSON object"),
        (["[1]"], "not a JSON object"),
        (["[" * 100_000], "line 1 of .* is not a JSON object"),
        ([{"text": "a"}, '{"text": "half \\ud800"}'], "row 2 of .* not Unicode\n.*ud800"),
        ([{"text": "a"}, {"query": "a", "positive": "b"}], "2 texts, and those before it 1"),
        ([{"query": "", "positive": "b"}], "no usable texts"),
        ([{"query": "a", "negative": "b"}], "no usable texts"),
    ],
)
def test_bad_rows_are_refused(records: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        list(read_rows(Source(path=write(tmp_path / "data.jsonl", records))))


def test_bad_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.jsonl.xz").write_bytes(lzma.compress(b'{"text": "a"}\n' * 999)[:-20])
    damaged = bytearray(
        gzip.compress("".join(f'{{"text": "{i * i}"}}\n' for i in range(999)).encode(), mtime=0)
    )
    damaged[60:90] = b"\xff" * 30
    (tmp_path / "damaged.jsonl.gz").write_bytes(damaged)
    for name, message in (
        ("damaged.jsonl.gz", "cannot be read"),
        ("none.jsonl", "cannot be read"),
        ("cut.jsonl.xz", "cannot be read"),
        ("a.txt", "name"),
    ):
        with pytest.raises(InputError, match=message):
            list(read_rows(Source(path=tmp_path / name)))


def test_tables_are_written_once_and_mapped(table: Any, tmp_path: Path) -> None:
    assert table.columns == ("query", "positive")
    assert table.texts("query")[3] == "q 3"
    assert table.texts("query")[3:5] == ["q 3", "q 4"]
    assert table.lengths().tolist() == [len(f"answer {i} " * (i + 1)) for i in range(9)]
    assert table.dataset(100)[2] == {"query": "q 2", "positive": PAIRS[2]["positive"], "label": 102}
    stamp = table.path.stat().st_mtime_ns
    again = build_table("pairs", Source(path=tmp_path / "d.jsonl"), tmp_path / "data", nothing)
    assert again == table
    assert table.path.stat().st_mtime_ns == stamp


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", [{"text": "a b"}, {"text": "c"}])
    for wish in ({"sentences": True}, {"texts_only": True, "variants": 1}):
        with pytest.raises(InputError, match="no row of the data set short is left"):
            build_table("short", Source(path=path, **wish), tmp_path / "data", nothing)  # type: ignore[arg-type]
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_full_disk_stops_a_table_and_leavesnothing(tmp_path: Path) -> None:
    path = tmp_path / "t.arrow"
    path.with_suffix(".part").symlink_to("/dev/full")
    rows = [Row(f"text {number}") for number in range(3)]
    with pytest.raises(
        TrainingError, match=r"table of t cannot be written(.|\n)*No space(.|\n)*free disk space"
    ):
        write_table("t", rows, path, nothing)
    assert list(tmp_path.iterdir()) == []
    assert list(write_table("t", rows, path, nothing).texts("query")) == [row.query for row in rows]


def test_a_table_that_is_not_whole_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, replace = [Row(f"text {number}") for number in range(3)], os.replace

    def full(source: Any, target: Any) -> None:
        if str(target).endswith(".json"):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(TrainingError, match="free disk space"):
        write_table("t", rows[:2], tmp_path / "t.arrow", nothing)
    monkeypatch.undo()
    assert write_table("t", rows, tmp_path / "t.arrow", nothing).rows == 3


def _sampler(steps: int, **changes: Any) -> MixtureBatchSampler:
    lengths = [np.arange(n, dtype=np.int32) for n in (40, 10)]
    data = SimpleNamespace(datasets=[range(40), range(10)])
    samplers = [SimpleNamespace(batch_size=4, drop_last=True)] * 2
    options = {"shares": [0.8, 0.2], "lengths": lengths, "steps": steps, "seed": 3} | changes
    return MixtureBatchSampler(data, samplers, **options)


def test_batches_are_of_one_data_set_and_repeat_with_the_seed() -> None:
    batches = list(_sampler(400))
    assert len(batches) == 400
    assert all(len(batch) == 4 and len({row >= 40 for row in batch}) == 1 for batch in batches)
    assert batches == list(_sampler(400))
    assert batches[:7] == list(_sampler(7))
    assert batches != list(_sampler(400, seed=4))
    small = [row - 40 for batch in batches for row in batch if row >= 40]
    assert 0.12 < len(small) / 1600 < 0.28
    first = small[:8]  # no row comes twice before every row has come once, up to the cut at a batch
    assert len(set(first)) == 8


def test_batches_hold_texts_of_about_one_length() -> None:
    spread = np.mean([max(b) - min(b) for b in _sampler(200, shares=[1.0, 0.0])])
    assert spread < 8  # rows drawn at random lie 26 apart


def test_proportions_and_mixtures() -> None:
    assert proportions([90, 10]) == pytest.approx([0.9, 0.1])
    assert proportions([90, 10], temperature=1e6) == pytest.approx([0.5, 0.5], abs=1e-3)
    drawn = dirichlet_mixtures([0.7, 0.3], 500, concentration=10, seed=1)
    assert np.mean(drawn, axis=0) == pytest.approx([0.7, 0.3], abs=0.03)
    assert np.allclose(np.sum(drawn, axis=1), 1)
    assert drawn[:3] == dirichlet_mixtures([0.7, 0.3], 3, concentration=10, seed=1)
