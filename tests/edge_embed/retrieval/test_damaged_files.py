"""Files that are no index, are of another version, or are damaged: one clear error, and no crash."""

from __future__ import annotations

import random
import sqlite3

import pytest

from edge_embed import Index
from edge_embed.errors import IndexFileError
from edge_embed.retrieval.store import schema


def found(hits):
    return [hit.document_id for hit in hits]


def test_files_that_are_no_index(path, stub, tmp_path):
    with pytest.raises(IndexFileError, match="no directory"):
        Index.open(tmp_path / "none" / "a.db", stub)
    with pytest.raises(IndexFileError, match="not a file"):
        Index.open(tmp_path, stub)
    path.write_text("some text that is long enough to look like a header of a database " * 20)
    with pytest.raises(IndexFileError, match="not an index"):
        Index.open(path, stub)
    assert path.read_text().startswith("some text")
    path.write_bytes(b"")
    with pytest.raises(IndexFileError, match="is empty"):
        Index.open(path, stub)
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE notes (text)")
    other.close()
    with pytest.raises(IndexFileError, match="another program"):
        Index.open(path, stub)


def test_a_newer_schema_is_refused(planets, path, stub):
    planets.close()
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION + 1}")
    other.close()
    with pytest.raises(IndexFileError, match="newer edge_embed"):
        Index.open(path, stub)


def test_an_older_schema_is_upgraded_once(planets, path, stub, monkeypatch):
    planets.close()
    calls = []

    def to_next(connection):
        connection.execute("CREATE TABLE added (x)")
        calls.append(1)

    monkeypatch.setattr(schema, "SCHEMA_VERSION", 2)
    monkeypatch.setitem(schema.UPGRADES, 1, to_next)
    with pytest.raises(IndexFileError, match="older schema"):
        Index.open(path, stub, read_only=True)
    for _ in range(2):
        with Index.open(path, stub) as index:
            assert index.stats().schema_version == 2
            assert found(index.search("red planet", 1)) == ["mars"]
    assert calls == [1]


def test_a_file_cut_anywhere_is_an_error(planets, path, stub, tmp_path):
    planets.add([{"id": f"more{n}", "text": f"more text {n} " * 30} for n in range(40)])
    planets.close()
    whole = path.read_bytes()
    copy = tmp_path / "cut.db"
    sizes = [*range(0, 600, 97), *range(4096, len(whole), 4096 * 5), len(whole) - 1, len(whole) - 4096]
    for size in sizes:
        copy.write_bytes(whole[:size])
        with pytest.raises(IndexFileError), Index.open(copy, stub) as index:
            index.check()


@pytest.mark.parametrize("table", ["signs", "codes", "floats"])
@pytest.mark.parametrize("memory", ["full", "low"])
def test_a_flipped_bit_in_vectors_is_an_error(path, make_stub, documents, table, memory):
    stub = make_stub(dimension=40)
    with Index.open(path, stub, vectors="float32") as index:
        index.add(documents)
    with sqlite3.connect(path) as other:
        (data,) = other.execute(f"SELECT data FROM {table}").fetchone()
    other.close()
    content = path.read_bytes()
    at = content.index(data) + len(data) // 2
    path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
    with Index.open(path, stub, memory=memory) as index:
        with pytest.raises(IndexFileError, match="damaged: block 0 of " + table):
            index.search("red planet", mode="vector", exact=table == "floats")
        with pytest.raises(IndexFileError, match="damaged"):
            index.check()
        assert found(index.search("red", mode="text")) == ["mars"]
        index.reindex()
        index.check()
        assert found(index.search("red planet", 1, mode="vector")) == ["mars"]


@pytest.mark.parametrize("table", ["signs", "codes"])
def test_a_missing_block_is_an_error(planets, path, stub, table):
    planets.close()
    with sqlite3.connect(path) as other:
        other.execute(f"DELETE FROM {table}")
    other.close()
    for memory in ("full", "low"):
        with Index.open(path, stub, memory=memory) as index, pytest.raises(IndexFileError, match=table):
            index.search("red planet")


def test_flipped_bytes_anywhere_never_crash(planets, path, stub, tmp_path):
    planets.close()
    whole = bytearray(path.read_bytes())
    rng = random.Random(11)
    copy = tmp_path / "flipped.db"
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        copy.write_bytes(damaged)
        try:
            with Index.open(copy, stub) as index:
                index.search("red planet")
                index.get("mars")
                index.add([{"id": "new", "text": "new"}])
                index.check()
        except IndexFileError:
            pass
