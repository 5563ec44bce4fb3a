"""Faults of processes, disks and files: what was committed stays, nothing is half there, errors are clear."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edge_embed import Embedder, Index
from edge_embed.errors import IndexFileError, IndexModelError
from edge_embed.retrieval.store import database

CONFTEST = Path(__file__).with_name("conftest.py")

PREAMBLE = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("stubs", {str(CONFTEST)!r})
stubs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stubs)
from edge_embed import Index
"""


def start(code, *words):
    program = PREAMBLE + code
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def found(hits):
    return [hit.document_id for hit in hits]


CHANGES = """
import itertools
with Index.open(sys.argv[1], stubs.StubEncoder()) as index:
    for n in itertools.count(len(index)):
        index.add([{"id": f"{n}-{i}", "text": f"word{n} alpha", "metadata": {"n": n}} for i in range(3)])
        print("add", n, flush=True)
        if n % 3 == 2:
            index.delete([f"{n - 1}-{i}" for i in range(3)])
            print("delete", n - 1, flush=True)
        if n % 7 == 6:
            index.compact()
"""


def test_killed_at_any_moment_it_holds_what_was_committed(path, stub):
    rng = random.Random(5)
    expected: set[int] = set()
    for _ in range(5):
        process = start(CHANGES, path)
        first = process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.25))
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate()
        assert first, err
        for line in (first + out).splitlines():
            verb, number = line.split()
            (expected.add if verb == "add" else expected.discard)(int(number))
        with Index.open(path, stub) as index:
            index.check()
            ids = set(index.ids())
            groups = {int(name.split("-")[0]) for name in ids}
            # Each step is there in whole: three documents of a number or none.
            assert ids == {f"{n}-{i}" for n in groups for i in range(3)}
            # The last step may have been committed although it was not reported any more.
            assert len(groups ^ expected) <= 1
            expected = groups
            for number in sorted(groups)[-2:]:
                assert {h.metadata["n"] for h in index.search(f"word{number}", mode="text")} == {number}
            hits = index.search("alpha", 1000, mode="vector")
            assert set(found(hits)) == ids


def test_killed_while_it_is_made_it_is_not_there(path, stub):
    code = """
import os, signal
from edge_embed.retrieval.store import schema
make = schema.create_lexical
def killed(*args):
    make(*args)
    os.kill(os.getpid(), signal.SIGKILL)
schema.create_lexical = killed
Index.open(sys.argv[1], stubs.StubEncoder())
"""
    process = start(code, path)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not path.exists()
    with Index.open(path, stub) as index:
        assert len(index) == 0


def test_two_processes_write_at_once(path, stub):
    code = """
with Index.open(sys.argv[1], stubs.StubEncoder()) as index:
    for n in range(15):
        index.add([{"id": f"{sys.argv[2]}{n}", "text": f"from {sys.argv[2]} number {n}"}])
        assert index.search(f"number {n}", 3, mode="hybrid")
"""
    writers = [start(code, path, name) for name in "ab"]
    for writer in writers:
        _, err = writer.communicate()
        assert writer.returncode == 0, err
    with Index.open(path, stub) as index:
        index.check()
        assert sorted(index.ids()) == sorted(f"{name}{n}" for name in "ab" for n in range(15))
        assert found(index.search("from a number 7", 1, mode="vector")) == ["a7"]


def test_another_writer_that_does_not_end(planets, path, stub, documents):
    planets.close()
    other = sqlite3.connect(path, isolation_level=None)
    with Index.open(path, stub, timeout=0.05) as index:
        other.execute("BEGIN IMMEDIATE")
        assert index.add(documents).unchanged == 3  # nothing to write
        with pytest.raises(IndexFileError, match="another process writes"):
            index.add([{"id": "new", "text": "new"}])
        assert found(index.search("red planet", 1)) == ["mars"]
        other.execute("ROLLBACK")
        other.close()
        assert index.add([{"id": "new", "text": "new"}]).new == 1


FULL = """
import resource, signal
with Index.open(sys.argv[1], stubs.StubEncoder()) as index:
    index.add([{"id": "first", "text": "the first text"}])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    from edge_embed.errors import IndexFileError
    try:
        for n in range(50):
            index.add([{"id": f"big{n}", "text": "many words " * 2000}])
    except IndexFileError as error:
        print(error.what)
    else:
        print("no error")
    print(n, [h.document_id for h in index.search("first", 1, mode="text")], flush=True)
"""


def test_a_disk_that_takes_no_more(path, stub):
    process = start(FULL, path)
    out, err = process.communicate()
    assert process.returncode == 0, err
    what, state = out.splitlines()
    assert "failed" in what or "no space" in what
    assert state.endswith("['first']")
    with Index.open(path, stub) as index:
        index.check()
        assert len(index) == 1 + int(state.split()[0])
        index.add([{"id": "later", "text": "room again"}])


def test_a_full_disk_is_named(planets, monkeypatch):
    # SQLite's own limit of pages gives the error of a full disk.
    with planets._database.outside_transactions() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(IndexFileError, match="no space is left"):
        planets.add([{"id": "big", "text": "many words " * 20000}])
    assert "big" not in planets
    assert found(planets.search("red planet", 1)) == ["mars"]
    planets.check()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("directory_mode", [0o555, 0o777])
def test_a_file_that_cannot_be_written(planets, path, directory_mode):
    planets.close()
    path.chmod(0o444)
    for parent in path.parents:
        if parent.stat().st_uid == os.getuid() and len(parent.parts) > 2:
            parent.chmod(parent.stat().st_mode | 0o055)
    path.parent.chmod(directory_mode)
    code = """
import os
from edge_embed.errors import IndexFileError
stubs.StubEncoder().encode_query("imports what it needs")
os.setuid(65534)
with Index.open(sys.argv[1], stubs.StubEncoder()) as index:
    print([h.document_id for h in index.search("red planet", 1)])
    new = [{"id": "x", "text": "x"}]
    for change in (lambda: index.delete(["mars"]), index.compact, lambda: index.add(new)):
        try:
            change()
        except IndexFileError as error:
            print("reading only" in error.what)
"""
    process = start(code, path)
    out, err = process.communicate()
    path.parent.chmod(0o777)
    assert process.returncode == 0, err
    assert out.splitlines() == ["['mars']", "True", "True", "True"]


def test_reading_only_on_request(planets, path, stub):
    with Index.open(path, stub, read_only=True) as index:
        assert found(index.search("red planet", 1)) == ["mars"]
        with pytest.raises(IndexFileError, match="reading only"):
            index.delete(["mars"])
        planets.add([{"id": "new", "text": "a new moon"}])
        assert found(index.search("new moon", 1)) == ["new"]
    with pytest.raises(IndexFileError, match="no index"):
        Index.open(path.with_name("none.db"), stub, read_only=True)


@pytest.mark.parametrize("vfs", ["unix-none", "unix-dotfile"])
def test_a_share_without_locks_is_refused(path, stub, monkeypatch, vfs):
    connect = sqlite3.connect

    def without_locks(address, **options):
        return connect(f"{address}&vfs={vfs}", **options)

    monkeypatch.setattr(database.sqlite3, "connect", without_locks)
    with pytest.raises(IndexFileError, match="local disk"):
        Index.open(path, stub)
    assert list(path.parent.iterdir()) == []


def test_model_file_gone_or_changed(tmp_path, tiny_model, tiny_sentencepiece_model, documents):
    model, path = tmp_path / "model.tflite", tmp_path / "a.db"
    shutil.copy(tiny_model, model)
    with Embedder(model, weight_cache="memory") as embedder, Index.open(path, embedder) as index:
        index.add(documents)
    model.unlink()
    with Index.open(path) as index, pytest.raises(IndexModelError, match="not there"):
        index.search("red planet")
    shutil.copy(tiny_sentencepiece_model, model)
    with Index.open(path) as index, pytest.raises(IndexModelError, match="another model"):
        index.search("red planet")


def test_another_process_gives_the_index_another_model(planets, path, make_stub):
    with Index.open(path) as other:
        other.reindex(make_stub(name="other"))
    with pytest.raises(IndexModelError, match="other settings"):
        planets.add([{"id": "new", "text": "new"}])
    with pytest.raises(IndexModelError):
        planets.search("red planet")
    with Index.open(path, make_stub(name="other")) as index:
        assert len(index) == 3


def test_backup_while_open(planets, path, stub, tmp_path):
    target = tmp_path / "copy" / "b.db"
    with pytest.raises(IndexFileError, match="cannot be written"):
        planets.backup(target)
    target.parent.mkdir()
    planets.backup(target)
    assert [p.name for p in target.parent.iterdir()] == ["b.db"]
    planets.delete(["mars"])
    with Index.open(target, stub) as copy:
        copy.check()
        assert copy.search("red planet", 1)[0].document_id == "mars"
    with pytest.raises(IndexFileError, match="itself"):
        planets.backup(path)


def test_an_interrupted_reindex_changes_nothing(planets, make_stub):
    class Broken(type(make_stub())):
        def encode_document(self, sentences, /, *, titles=None):
            raise KeyboardInterrupt

    before = planets.search("red planet")
    with pytest.raises(KeyboardInterrupt):
        planets.reindex(Broken(name="broken"))
    planets.check()
    assert planets.search("red planet") == before


def test_vectors_that_cannot_be_used_are_refused(planets, make_stub, path):
    class Bad(type(make_stub())):
        def encode_document(self, sentences, /, *, titles=None):
            return np.full((len(sentences), self.dimension), np.nan)

    planets.close()
    with Index.open(path, Bad()) as index, pytest.raises(ValueError, match="not finite"):
        index.add([{"id": "new", "text": "new"}])
