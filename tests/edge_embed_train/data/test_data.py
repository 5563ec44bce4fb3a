"""Reading, tables, batches, teacher vectors and hard negatives."""

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
import torch

from edge_embed.errors import InputError, TrainingError
from edge_embed_train.data import (
    MixtureBatchSampler,
    Source,
    StoredVectors,
    build_table,
    dirichlet_mixtures,
    mine_negatives,
    principal_axes,
    proportions,
    read_rows,
    teacher_vectors,
)
from edge_embed_train.data.sources import Row
from edge_embed_train.data.tables import write_table

PAIRS = [
    {"source": "s", "task": "qa", "anchor": f"q {i}", "positive": f"answer {i} " * (i + 1)} for i in range(9)
]


def _write(path: Path, records: list[Any]) -> Path:
    text = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records)
    opener: Any = {".xz": lzma.open, ".gz": gzip.open}.get(path.suffix, open)
    with opener(path, "wt", encoding="utf-8") as file:
        file.write(text)
    return path


def _nothing(_: int) -> None:
    return None


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.xz", ".jsonl.gz"])
def test_rows_are_read_from_every_kind_of_file(ending: str, tmp_path: Path) -> None:
    triple = {"query": "a", "positive": "b", "negative": "c"}
    path = _write(tmp_path / f"data{ending}", [triple, "", {**triple, "negatives": ["x"], "negative": "d"}])
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
    path = _write(tmp_path / "data.jsonl", records)
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
    path = _write(tmp_path / "data.jsonl", PAIRS)
    with pytest.raises(InputError, match="columns"):
        list(read_rows(Source(path=path, columns=columns)))


@pytest.mark.parametrize("name", ["negative", "negatives"])
def test_negatives_may_be_a_list(name: str, tmp_path: Path) -> None:
    pair = {"query": "a", "positive": "b"}
    path = _write(tmp_path / "data.jsonl", [{**pair, name: ["c", "d"]}, {**pair, name: ["", "e"]}])
    assert [row.texts for row in read_rows(Source(path=path))] == [("a", "b", "c"), ("a", "b", "e")]
    renamed = _write(tmp_path / "renamed.jsonl", [{**pair, "hard": ["c"]}])
    assert next(read_rows(Source(path=renamed, columns={name: "hard"}))).negative == "c"


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.xz", ".jsonl.gz"])
def test_a_byte_order_mark_is_no_text(ending: str, tmp_path: Path) -> None:
    path = _write(tmp_path / f"data{ending}", ["\ufeff" + json.dumps({"text": "a"}), {"text": "b"}])
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
        list(read_rows(Source(path=_write(tmp_path / "data.jsonl", records))))


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


@pytest.fixture
def table(tmp_path: Path) -> Any:
    return build_table("pairs", Source(path=_write(tmp_path / "d.jsonl", PAIRS)), tmp_path / "data", _nothing)


def test_tables_are_written_once_and_mapped(table: Any, tmp_path: Path) -> None:
    assert table.columns == ("query", "positive")
    assert table.texts("query")[3] == "q 3"
    assert table.texts("query")[3:5] == ["q 3", "q 4"]
    assert table.lengths().tolist() == [len(f"answer {i} " * (i + 1)) for i in range(9)]
    assert table.dataset(100)[2] == {"query": "q 2", "positive": PAIRS[2]["positive"], "label": 102}
    stamp = table.path.stat().st_mtime_ns
    again = build_table("pairs", Source(path=tmp_path / "d.jsonl"), tmp_path / "data", _nothing)
    assert again == table
    assert table.path.stat().st_mtime_ns == stamp


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "d.jsonl", [{"text": "a b"}, {"text": "c"}])
    for wish in ({"sentences": True}, {"texts_only": True, "variants": 1}):
        with pytest.raises(InputError, match="no row of the data set short is left"):
            build_table("short", Source(path=path, **wish), tmp_path / "data", _nothing)  # type: ignore[arg-type]
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_full_disk_stops_a_table_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.arrow"
    path.with_suffix(".part").symlink_to("/dev/full")
    rows = [Row(f"text {number}") for number in range(3)]
    with pytest.raises(
        TrainingError, match=r"table of t cannot be written(.|\n)*No space(.|\n)*free disk space"
    ):
        write_table("t", rows, path, _nothing)
    assert list(tmp_path.iterdir()) == []
    assert list(write_table("t", rows, path, _nothing).texts("query")) == [row.query for row in rows]


def test_a_table_that_is_not_whole_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, replace = [Row(f"text {number}") for number in range(3)], os.replace

    def full(source: Any, target: Any) -> None:
        if str(target).endswith(".json"):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(TrainingError, match="free disk space"):
        write_table("t", rows[:2], tmp_path / "t.arrow", _nothing)
    monkeypatch.undo()
    assert write_table("t", rows, tmp_path / "t.arrow", _nothing).rows == 3


def test_a_directory_that_is_a_file_is_named(table: Any, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(TrainingError, match=f"make {file} a directory"):
        write_table("t", [Row("a")], file / "t.arrow", _nothing)
    with pytest.raises(TrainingError, match=f"make {file} a directory"):
        teacher_vectors(Teacher(), "t", table, file, prompts={}, batch_size=2, advance=_nothing)


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


class Teacher:
    """Vectors from letters; counts the texts that it was given."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.seen, self.fail_after = 0, fail_after

    def get_embedding_dimension(self) -> int:
        return 26

    def encode(self, texts: list[str], **_: Any) -> np.ndarray:
        if self.fail_after is not None and self.seen >= self.fail_after:
            raise KeyboardInterrupt
        self.seen += len(texts)
        vectors = np.array(
            [[1 + t.count(c) for c in "abcdefghijklmnopqrstuvwxyz"] for t in texts], np.float32
        )
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_teacher_vectors_are_computed_once_and_go_on_where_they_stopped(
    table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_embed_train.data.teacher.CHUNK", 2)
    options: Any = {"prompts": {}, "batch_size": 2, "advance": _nothing}
    with pytest.raises(KeyboardInterrupt):
        teacher_vectors(Teacher(fail_after=4), "t", table, tmp_path / "t", **options)
    second = Teacher()
    query, positive = teacher_vectors(second, "t", table, tmp_path / "t", **options)
    assert second.seen == 5 + 9
    whole = Teacher().encode([p["anchor"] for p in PAIRS])
    np.testing.assert_allclose(query, whole, atol=1e-3)
    third = Teacher()
    teacher_vectors(third, "t", table, tmp_path / "t", **options)
    assert third.seen == 0
    store = StoredVectors(26)
    store.add(0, [query])
    store.add(9, [query, positive], np.arange(9)[::-1].copy())
    got = store(torch.tensor([10, 17]), 1).numpy()
    np.testing.assert_array_equal(got, positive[[1, 8]].astype(np.float32))
    np.testing.assert_array_equal(store(torch.tensor([10]), 2).numpy(), positive[[7]].astype(np.float32))
    with pytest.raises(InputError, match="dimension"):
        StoredVectors(25).add(0, [query])


def test_vectors_that_are_not_finite_stop_the_run(table: Any, tmp_path: Path) -> None:
    broken = Teacher()
    broken.encode = lambda texts, **_: np.full((len(texts), 26), np.nan)  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match="not finite"):
        teacher_vectors(broken, "t", table, tmp_path / "t", prompts={}, batch_size=2, advance=_nothing)


def test_prompts_of_the_same_letters_have_their_own_vectors(table: Any, tmp_path: Path) -> None:
    teacher = Teacher()
    for number, prompt in enumerate(("", "on ", "no ", "on "), 1):
        teacher_vectors(
            teacher, "t", table, tmp_path, prompts={"query": prompt}, batch_size=2, advance=_nothing
        )
        assert teacher.seen == 9 + 9 * min(number, 3)


@pytest.mark.parametrize("damage", ["count", "count above", "vectors", "vectors of another shape"])
def test_what_a_stopped_run_left_damaged_is_computed_again(
    damage: str, table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_embed_train.data.teacher.CHUNK", 2)
    options: Any = {"prompts": {}, "batch_size": 2, "advance": _nothing}
    with pytest.raises(KeyboardInterrupt):
        teacher_vectors(Teacher(fail_after=4), "t", table, tmp_path / "t", **options)
    count, vectors = sorted((tmp_path / "t").iterdir())
    assert (count.suffix, count.read_text(), vectors.name[-9:]) == (".done", "4", ".part.npy")
    if damage == "vectors":
        vectors.write_bytes(vectors.read_bytes()[:-50])
    elif damage == "vectors of another shape":
        np.save(vectors, np.zeros((9, 25), np.float16))
    else:
        count.write_text("" if damage == "count" else "10")
    with pytest.raises(KeyboardInterrupt):  # before a first part is done, so none must count as done
        teacher_vectors(Teacher(fail_after=0), "t", table, tmp_path / "t", **options)
    teacher = Teacher()
    found = teacher_vectors(teacher, "t", table, tmp_path / "t", **options)
    assert teacher.seen == 18
    np.testing.assert_allclose(found[0], Teacher().encode([p["anchor"] for p in PAIRS]), atol=1e-3)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve room")
def test_room_for_vectors_is_taken_before_the_teacher_is_asked(
    table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: Any = {"prompts": {}, "batch_size": 2, "advance": _nothing}
    asked: list[tuple[int, int]] = []

    def refuse(code: int) -> None:
        def reserve(_: int, start: int, size: int) -> None:
            asked.append((start, size))
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "posix_fallocate", reserve)

    refuse(errno.ENOSPC)
    teacher = Teacher()
    with pytest.raises(
        TrainingError, match=r"No space left(.|\n)*free disk space and run the same command again"
    ):
        teacher_vectors(teacher, "t", table, tmp_path / "t", **options)
    assert teacher.seen == 0
    refuse(errno.EOPNOTSUPP)  # a file system that cannot reserve room is used without
    query, _ = teacher_vectors(teacher, "t", table, tmp_path / "t", **options)
    assert teacher.seen == 18
    assert asked[0] == (0, 128 + query.nbytes)


def _mine(table: Any, queries: Any, positives: Any, directory: Path, among: int = 1) -> tuple[Any, Any]:
    return mine_negatives(
        table, queries, positives, directory, margin=0.95, seed=0, among=among, advance=_nothing
    )


def test_two_teachers_have_their_own_negatives(table: Any, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    teachers = [generator.standard_normal((2, 9, 4)).astype(np.float16) for _ in range(2)]
    found = [_mine(table, *vectors, tmp_path / "data") for vectors in teachers]
    assert found[0][0].path != found[1][0].path
    for number, vectors in enumerate(teachers):
        triples, rows = _mine(table, *vectors, tmp_path / f"alone-{number}")
        np.testing.assert_array_equal(found[number][1], rows)
        assert list(found[number][0].texts("negative")) == list(triples.texts("negative"))


@pytest.mark.parametrize("left", [b"", b"nothing", None], ids=["empty", "other", "cut"])
def test_negatives_that_are_not_whole_are_mined_again(left: bytes | None, table: Any, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((2, 9, 4)).astype(np.float16)
    _, rows = _mine(table, *vectors, tmp_path / "data")
    wanted = rows.tolist()
    del rows
    (file,) = (tmp_path / "data").glob("*.negatives.npy")
    file.write_bytes(file.read_bytes()[:-9] if left is None else left)
    triples, rows = _mine(table, *vectors, tmp_path / "data")
    assert rows.tolist() == wanted
    assert list(triples.texts("negative")) == [PAIRS[row]["positive"] for row in wanted]
    assert list((tmp_path / "data").glob("*.part*")) == []


def test_negatives_that_cannot_be_written_stop_the_run(
    table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Path, values: Any) -> None:
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    vectors = np.random.default_rng(0).standard_normal((2, 9, 4)).astype(np.float16)
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(TrainingError, match="hard negatives of pairs cannot be written"):
        _mine(table, *vectors, tmp_path / "data")
    assert list((tmp_path / "data").glob("*.negatives.npy")) == []


def test_a_negative_drawn_at_random_is_no_answer(tmp_path: Path) -> None:
    queries = ["red cat", "red cat", "red cat", "old river", "old river", "sea"]
    passages = ["sun", "bread", "milk", "sun", "ship", "sun"]
    records = [{"query": q, "positive": p} for q, p in zip(queries, passages, strict=True)] * 8
    table = build_table("p", Source(path=_write(tmp_path / "d.jsonl", records)), tmp_path, _nothing)
    alike = np.ones((48, 1), np.float16)  # every passage is too much like every positive, so all are drawn
    triples, _ = _mine(table, alike, alike, tmp_path)
    drawn: dict[str, set[str]] = {}
    for query, negative in zip(queries * 8, triples.texts("negative"), strict=True):
        drawn.setdefault(query, set()).add(negative)
    assert drawn == {
        "red cat": {"ship"},
        "old river": {"bread", "milk"},
        "sea": {"bread", "milk", "ship"},
    }


def test_a_query_that_every_passage_answers_is_named(tmp_path: Path) -> None:
    records = [{"query": q, "positive": "sun"} for q in ("red cat", "old river", "sea")]
    table = build_table("p", Source(path=_write(tmp_path / "d.jsonl", records)), tmp_path, _nothing)
    alike = np.ones((3, 1), np.float16)
    with pytest.raises(InputError, match=r"row 1: every positive answers its query\n.*red cat"):
        _mine(table, alike, alike, tmp_path)


def test_hard_negatives_are_alike_and_no_answers(tmp_path: Path) -> None:
    records = [
        {"query": "q1", "positive": "east"},
        {"query": "q1", "positive": "near east"},
        {"query": "q2", "positive": "north"},
        {"query": "q3", "positive": "east"},
        {"query": "q4", "positive": "north east"},
    ]
    table = build_table("p", Source(path=_write(tmp_path / "d.jsonl", records)), tmp_path, _nothing)
    angles = np.radians([0, 10, 90, 0, 45])
    positives = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float16)
    queries = positives[[0, 0, 2, 3, 4]]
    triples, rows = _mine(table, queries, positives, tmp_path)
    # q1 has two answers, so the most alike other passage is at 45 degrees; so it is for q3, whose next
    # passage at 10 degrees is too much like its answer.
    assert rows.tolist() == [4, 4, 4, 4, 1]
    assert triples.columns == ("query", "positive", "negative")
    assert triples.texts("negative")[0] == "north east"


def test_principal_axes_put_what_matters_first() -> None:
    generator = np.random.default_rng(0)
    vectors = (generator.standard_normal((500, 6)) * [1, 5, 2, 9, 1, 3]).astype(np.float16)
    axes = principal_axes([[vectors[:200]], [vectors[200:], vectors[:100]]])
    np.testing.assert_allclose(axes @ axes.T, np.eye(6), atol=1e-5)
    assert np.abs(axes).argmax(1)[:4].tolist() == [3, 1, 5, 2]
    assert bool((np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1) > 0).all())
    turned = vectors.astype(np.float32) @ axes.T
    assert bool((np.diff((turned**2).mean(0)) < 0).all())
