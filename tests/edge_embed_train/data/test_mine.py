"""Hard negatives."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_embed.errors import InputError, TrainingError
from edge_embed_train.data import (
    Source,
    build_table,
    mine_negatives,
)

from .rows import PAIRS, nothing, write


def _mine(table: Any, queries: Any, positives: Any, directory: Path, among: int = 1) -> tuple[Any, Any]:
    return mine_negatives(
        table, queries, positives, directory, margin=0.95, seed=0, among=among, advance=nothing
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
    table = build_table("p", Source(path=write(tmp_path / "d.jsonl", records)), tmp_path, nothing)
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
    table = build_table("p", Source(path=write(tmp_path / "d.jsonl", records)), tmp_path, nothing)
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
    table = build_table("p", Source(path=write(tmp_path / "d.jsonl", records)), tmp_path, nothing)
    angles = np.radians([0, 10, 90, 0, 45])
    positives = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float16)
    queries = positives[[0, 0, 2, 3, 4]]
    triples, rows = _mine(table, queries, positives, tmp_path)
    # q1 has two answers, so the most alike other passage is at 45 degrees; so it is for q3, whose next
    # passage at 10 degrees is too much like its answer.
    assert rows.tolist() == [4, 4, 4, 4, 1]
    assert triples.columns == ("query", "positive", "negative")
    assert triples.texts("negative")[0] == "north east"
