"""Output files, without a model: what is in them, and what an interruption leaves."""

from __future__ import annotations

import fcntl
import importlib.util
import itertools
import json
import os
import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from edge_embed.bulk.formats import FACTS_KEY, json_lines, open_output
from edge_embed.bulk.rows import BadRow, Part
from edge_embed.errors import InputError, MissingExtraError

VECTORS = np.array([[0.1, -2.5e-8], [1.0, 3.4e38], [7.0, 8.0]], dtype=np.float32)

needs_pyarrow = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="could not import 'pyarrow'"
)
KINDS = [".npy", ".jsonl", pytest.param(".parquet", marks=needs_pyarrow)]


def part(first, *texts, bad=()):
    """A part whose texts are given; None stands for a bad row."""
    rows = [first + place for place, text in enumerate(texts) if text is not None]
    good = [text for text in texts if text is not None]
    wrong = [BadRow(first + place, f"row {place}", "bad") for place, text in enumerate(texts) if text is None]
    return Part(first, rows, good, None, [{"text": text} for text in good], bad=wrong, size=len(texts))


def write(path, *parts, finish=True, facts=None, **choice):
    output = open_output(path, facts or {"model": "m"}, 2)
    try:
        output.begin(**{"resume": False, "restart": False} | choice)
        at = output.progress.embedded
        for each in parts:
            output.write(each, VECTORS[at : at + len(each.texts)])
            at += len(each.texts)
        if finish:
            output.finish()
    finally:
        output.close()
    return output


def read(path):
    """The vectors in a file."""
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return np.array([line["embedding"] for line in lines], np.float32)
    import pyarrow.parquet

    return np.array(pyarrow.parquet.read_table(path)["embedding"].to_pylist(), np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_make_one_file(tmp_path, kind):
    path = tmp_path / f"v{kind}"
    write(path, part(0, "a", "b"), part(2, "c"))
    assert read(path).tobytes() == VECTORS.tobytes()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_goes_on_where_it_was(tmp_path, kind):
    path = tmp_path / f"v{kind}"
    path.write_bytes(b"old")
    write(path, part(0, "a", None), finish=False)
    assert path.read_bytes() == b"old"
    # A crash in the middle of a part leaves more than the record says.
    for name in (f".v{kind}.partial", f"v{kind}.errors.jsonl"):
        if (tmp_path / name).exists():
            with (tmp_path / name).open("ab") as file:
                file.write(b"half of a part")
    with pytest.raises(InputError, match="--resume"):
        write(path)
    output = write(path, part(2, "b", "c", None), resume=True)
    assert (output.progress.rows, output.progress.embedded, output.progress.bad) == (5, 3, 2)
    got = read(path)
    if kind == ".npy":
        assert np.isnan(got[[1, 4]]).all()
        got = got[[0, 2, 3]]
    assert got.tobytes() == VECTORS.tobytes()
    bad = [json.loads(line) for line in (tmp_path / f"v{kind}.errors.jsonl").read_text().splitlines()]
    assert [row["row"] for row in bad] == [1, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_restart_drops_what_was_there(tmp_path, kind):
    path = tmp_path / f"v{kind}"
    write(path, part(0, "x", "y", "z"), finish=False)
    write(path, part(0, "a"), restart=True)
    assert read(path).tobytes() == VECTORS[:1].tobytes()


def test_another_model_or_input_is_not_continued(tmp_path):
    path = tmp_path / "v.npy"
    write(path, part(0, "a"), finish=False, facts={"model": "one"})
    with pytest.raises(InputError, match="its model was another"):
        write(path, facts={"model": "two"}, resume=True)
    (tmp_path / ".v.npy.progress.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        write(path, resume=True)


def test_two_writers_of_one_file(tmp_path):
    path = tmp_path / "v.npy"
    output = open_output(path, {}, 2)
    output.begin(resume=False, restart=False)
    with pytest.raises(InputError, match="another process"):
        write(path, restart=True)
    output.close()


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_at_all_is_an_empty_file_of_its_kind(tmp_path, kind):
    path = tmp_path / f"v{kind}"
    write(path)
    assert len(read(path)) == 0
    if kind == ".npy":
        assert read(path).shape == (0, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_keeps_what_was_written(tmp_path, kind, monkeypatch):
    path = tmp_path / f"v{kind}"
    output = open_output(path, {}, 2)
    output.begin(resume=False, restart=False)
    output.write(part(0, "a"), VECTORS[:1])

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(InputError, match="No space left"):
            output.write(part(1, "b"), VECTORS[1:2])
    output.close()
    again = open_output(path, {}, 2)
    again.begin(resume=True, restart=False)
    assert again.progress.rows == 1
    again.write(part(1, "b", "c"), VECTORS[1:])
    again.finish()
    assert read(path).tobytes() == VECTORS.tobytes()


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", ["os.replace", "os.fsync", "shutil.rmtree", "pathlib.Path.unlink"])
def test_a_run_that_is_stopped_while_it_finishes_is_finished_by_the_next(tmp_path, kind, step, monkeypatch):
    """Every call of every step in turn is the last one that the process comes to."""
    facts, path = {"model": "m"}, tmp_path / f"v{kind}"
    parts = [part(0, "a", "b"), part(2, "c")]
    module, _, name = step.rpartition(".")
    owner = {"os": os, "shutil": shutil, "pathlib.Path": Path}[module]
    for place in range(20):
        path.write_bytes(b"old")
        write(path, *parts, finish=False, facts=facts, restart=True)
        output = open_output(path, facts, 2)
        output.begin(resume=True, restart=False)
        calls, real = itertools.count(), getattr(owner, name)

        def stop(*words, real=real, calls=calls, place=place, **more):
            if next(calls) == place:
                raise Killed
            return real(*words, **more)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, stop)
            try:
                output.finish()
            except Killed:
                stopped = True
            else:
                stopped = False
        os.close(output._lock) if output._lock is not None else None  # as a dead process does
        if (tmp_path / f".v{kind}.progress.json").exists():
            assert stopped
            write(path, facts=facts, resume=True)
        assert read(path).tobytes() == VECTORS.tobytes()
        (tmp_path / f".v{kind}.lock").unlink(missing_ok=True)
        assert [file.name for file in tmp_path.iterdir()] == [path.name]
        if not stopped:
            break
    else:
        pytest.fail("it never came to its end")


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_is_full_keeps_what_was_written(small_disk, kind):
    path = small_disk / f"v{kind}"
    rows = 100
    vectors = np.random.default_rng(0).standard_normal((rows, 500), np.float32)  # does not compress
    output = open_output(path, {}, 500)
    output.begin(resume=False, restart=False)
    full = None
    while full is None:
        done = output.progress.rows
        try:
            output.write(part(done, *(f"text {done + row}" for row in range(rows))), vectors)
        except InputError as error:
            full = error
    assert "No space left" in str(full)
    assert "--resume" in str(full)
    output.close()
    assert done > 0
    assert not path.exists()
    again = open_output(path, {}, 500)
    again.begin(resume=True, restart=False)
    assert again.progress.rows == done
    (small_disk / "other").unlink()  # what filled the disk
    try:
        again.finish()
    finally:
        again.close()
    assert read(path).tobytes() == np.concatenate([vectors] * (done // rows)).tobytes()


def test_a_disk_that_is_full_while_parquet_is_completed(small_disk):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = small_disk / "v.parquet"
    vectors = np.random.default_rng(0).standard_normal((300, 500), np.float32)
    write(path, finish=False)
    output = open_output(path, {"model": "m"}, 500)
    output.begin(resume=False, restart=False)
    output.write(part(0, *(f"text {row}" for row in range(300))), vectors)  # more than half of what is free
    with pytest.raises(InputError, match="No space left"):
        output.finish()
    output.close()
    assert not path.exists()
    assert not (small_disk / ".v.parquet.partial").exists()  # its place is free again
    (small_disk / "other").unlink()
    again = open_output(path, {"model": "m"}, 500)
    again.begin(resume=True, restart=False)
    assert again.progress.rows == 300
    again.finish()
    assert parquet.read_table(path).num_rows == 300


def test_who_waited_for_a_writer_has_the_output_alone(tmp_path, monkeypatch):
    first, second, third = (open_output(tmp_path / "v.npy", {}, 2) for _ in range(3))
    first.begin(resume=True, restart=False)
    real = fcntl.flock

    def flock(*words):
        monkeypatch.undo()
        first.close()  # between the moment when the second opens the lock file and when it locks it
        real(*words)

    monkeypatch.setattr(fcntl, "flock", flock)
    second.begin(resume=True, restart=False)
    with pytest.raises(InputError, match="another process"):
        third.begin(resume=True, restart=False)
    second.close()
    third.begin(resume=True, restart=False)
    third.close()


def test_restart_drops_a_damaged_record(tmp_path):
    path = tmp_path / "v.npy"
    write(path, part(0, "a"), finish=False)
    (tmp_path / ".v.npy.progress.json").write_text("{")
    write(path, part(0, "b"), restart=True)
    assert read(path).tobytes() == VECTORS[:1].tobytes()


def test_bad_rows_of_an_earlier_output_are_not_those_of_the_next(tmp_path):
    path = tmp_path / "v.npy"
    output = write(path, part(0, "a", None))
    assert output.bad_path.exists()
    write(path, part(0, "a", "b"))
    assert not output.bad_path.exists()


@pytest.mark.parametrize("rows", [[], [None]])
def test_parquet_without_a_row_keeps_the_columns(tmp_path, rows):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path, empty = tmp_path / "v.parquet", part(0, *rows)
    empty.table = pyarrow.table({"text": pyarrow.array([], pyarrow.string()), "n": pyarrow.array([], "int8")})
    write(path, empty)
    schema = parquet.read_schema(path)
    assert schema.names == ["text", "n", "embedding"]
    assert schema.field("n").type == pyarrow.int8()
    assert schema.field("embedding").type.list_size == 2


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link.npy").symlink_to(tmp_path / "real.npy")
    write(tmp_path / "link.npy", part(0, "a", "b", "c"))
    assert (tmp_path / "link.npy").is_symlink()
    assert np.array_equal(np.load(tmp_path / "real.npy"), VECTORS)


@pytest.mark.parametrize("name", ["v.csv", "v", "gone/v.npy", "folder.npy"])
def test_output_is_refused_before_any_work(tmp_path, name):
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(InputError):
        open_output(tmp_path / name, {}, 2)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"edge-embed\[parquet\]"):
        open_output(tmp_path / "a.parquet", {}, 2)


def test_parquet_keeps_columns_types_and_facts(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "v.parquet"
    one, two = part(0, "a", "b"), part(2, "c")
    one.table = pyarrow.table({"n": pyarrow.array([1, 2], pyarrow.int16()), "embedding": ["old", "old"]})
    two.table = pyarrow.table({"n": pyarrow.array([3], pyarrow.int16()), "embedding": ["old"]})
    write(path, one, two, facts={"model": "m", "graph": "abc"})
    back = parquet.read_table(path)
    assert back.schema.field("n").type == pyarrow.int16()
    assert back.column_names == ["n", "embedding"]
    assert read(path).tobytes() == VECTORS.tobytes()
    assert json.loads(back.schema.metadata[FACTS_KEY.encode()]) == {"model": "m", "graph": "abc"}


def test_parquet_from_records_with_different_fields(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "v.parquet"
    one, two = part(0, "a", "b"), part(2, "c")
    two.records[0]["n"] = 1
    write(path, one, two)
    assert parquet.read_table(path)["n"].to_pylist() == [None, None, 1]
    wrong = part(0, "a", "b")
    wrong.records[0]["n"], wrong.records[1]["n"] = "a", 1
    with pytest.raises(InputError, match="do not fit"):
        write(path, wrong)


@given(st_numpy.arrays(np.float32, 5, elements=st.floats(allow_nan=False, allow_infinity=False, width=32)))
def test_json_numbers_are_exact(vector):
    (line,) = json_lines(part(0, "ü"), vector[None])
    back = np.array(json.loads(line)["embedding"], dtype=np.float32)
    assert back.tobytes() == vector.tobytes()
    assert json.loads(line)["text"] == "ü"
