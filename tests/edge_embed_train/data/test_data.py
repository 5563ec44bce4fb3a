"""Reading, tables, batches, teacher vectors and hard negatives."""

from __future__ import annotations

import gzip
import json
import lzma
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
    with pytest.raises(InputError, match="too small"):
        list(read_rows(Source(path=path, every=0)))
    rows = list(read_rows(Source(path=path, where={"task": "x"}, columns={"query": "question"})))
    assert rows[0].texts == ("?", "!")


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


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "no rows"),
        (["{"], "not a JSON object"),
        (["[1]"], "not a JSON object"),
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
    for name, message in (
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
    triples, rows = mine_negatives(
        table, queries, positives, tmp_path, margin=0.95, seed=0, among=1, advance=_nothing
    )
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
