"""Paths, files and arguments that nobody should pass: each is one error, and nothing hangs or is lost."""

from __future__ import annotations

import os

import numpy as np
import pytest

from edge_embed import Index
from edge_embed.errors import IndexFileError, InputError
from edge_embed.retrieval.readers.walking import Skipped, find_files


@pytest.mark.parametrize("fate", ["deleted", "replaced"])
def test_an_index_that_loses_its_name_while_it_is_open(planets, path, stub, tmp_path, fate):
    """It can still be searched; what would be written is lost, so nothing is."""
    if fate == "deleted":
        path.unlink()
    else:
        planets.backup(tmp_path / "other.db")
        os.replace(tmp_path / "other.db", path)
    assert planets.search("red", mode="text")[0].document_id == "mars"
    for change in (
        lambda: planets.add([{"id": "x", "text": "x"}]),
        lambda: planets.delete(["mars"]),
        planets.compact,
    ):
        with pytest.raises(IndexFileError, match="deleted or replaced while it was open"):
            change()
    if fate == "replaced":
        with Index.open(path, stub) as again:
            assert again.add([{"id": "x", "text": "x"}]).new == 1


def test_a_name_that_is_not_utf8_is_a_name(tmp_path, stub):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/a?b#c%20\xff.db")
    with Index.open(path, stub) as index:
        index.add([{"id": "a", "text": "red"}])
    assert os.path.exists(path)
    with Index.open(path, stub, read_only=True) as index:
        assert index.search("red", mode="text")[0].document_id == "a"


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_name_that_the_system_does_not_take(tmp_path, stub, name):
    with pytest.raises(IndexFileError, match="no index can be at"):
        Index.open(tmp_path / name, stub)


@pytest.mark.parametrize("vector", ["x", ["x"], [[1.0] * 6], [1.0], [np.nan] * 6, object(), {}])
def test_what_is_no_vector_is_refused(planets, vector):
    with pytest.raises(InputError, match="the vector of the query cannot be used"):
        planets.search("red", vector=vector)


def test_a_filter_of_many_fields(planets):
    assert planets.search("red", where={f"n{number}": number for number in range(100)}) == []
    with pytest.raises(InputError, match="too many fields"):
        planets.search("red", where={f"n{number}": number for number in range(101)})


def test_pipes_and_devices_are_not_read(tmp_path, planets):
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "endless.txt").symlink_to("/dev/zero")
    (tmp_path / "a.md").write_text("red")
    named = [tmp_path / "pipe.md", tmp_path / "endless.txt"]
    assert [type(found) for found in find_files(named)] == [Skipped, Skipped]
    result = planets.add_files([tmp_path, *named])
    assert result.files == 1
    assert {skipped.reason for skipped in result.skipped} >= {"neither a file nor a folder"}


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, monkeypatch, planets):
    from edge_embed.retrieval.readers import formats

    monkeypatch.setattr(formats, "LARGEST", 100)
    file = tmp_path / "a.txt"
    file.write_text("red " * 30)
    real = os.fstat

    def before(descriptor):
        return os.stat_result([*real(descriptor)[:6], 4, *real(descriptor)[7:]])

    monkeypatch.setattr(formats.os, "fstat", before)
    result = planets.add_files([file])
    monkeypatch.undo()
    assert "too large" in result.skipped[0].reason
