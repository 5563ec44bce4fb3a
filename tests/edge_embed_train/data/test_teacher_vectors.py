"""The teacher's vectors on disk, and their principal axes."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_embed.errors import InputError, TrainingError
from edge_embed_train.data import (
    StoredVectors,
    principal_axes,
    teacher_vectors,
)
from edge_embed_train.data.sources import Row
from edge_embed_train.data.tables import write_table

from .rows import PAIRS, nothing


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
    options: Any = {"prompts": {}, "batch_size": 2, "advance": nothing}
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
        teacher_vectors(broken, "t", table, tmp_path / "t", prompts={}, batch_size=2, advance=nothing)


def test_prompts_of_the_same_letters_have_their_own_vectors(table: Any, tmp_path: Path) -> None:
    teacher = Teacher()
    for number, prompt in enumerate(("", "on ", "no ", "on "), 1):
        teacher_vectors(
            teacher, "t", table, tmp_path, prompts={"query": prompt}, batch_size=2, advance=nothing
        )
        assert teacher.seen == 9 + 9 * min(number, 3)


@pytest.mark.parametrize("damage", ["count", "count above", "vectors", "vectors of another shape"])
def test_what_a_stopped_run_left_damaged_is_computed_again(
    damage: str, table: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_embed_train.data.teacher.CHUNK", 2)
    options: Any = {"prompts": {}, "batch_size": 2, "advance": nothing}
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
    options: Any = {"prompts": {}, "batch_size": 2, "advance": nothing}
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


def test_a_directory_that_is_a_file_is_named(table: Any, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(TrainingError, match=f"make {file} a directory"):
        write_table("t", [Row("a")], file / "t.arrow", nothing)
    with pytest.raises(TrainingError, match=f"make {file} a directory"):
        teacher_vectors(Teacher(), "t", table, file, prompts={}, batch_size=2, advance=nothing)


def test_principal_axes_put_what_matters_first() -> None:
    generator = np.random.default_rng(0)
    vectors = (generator.standard_normal((500, 6)) * [1, 5, 2, 9, 1, 3]).astype(np.float16)
    axes = principal_axes([[vectors[:200]], [vectors[200:], vectors[:100]]])
    np.testing.assert_allclose(axes @ axes.T, np.eye(6), atol=1e-5)
    assert np.abs(axes).argmax(1)[:4].tolist() == [3, 1, 5, 2]
    assert bool((np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1) > 0).all())
    turned = vectors.astype(np.float32) @ axes.T
    assert bool((np.diff((turned**2).mean(0)) < 0).all())
