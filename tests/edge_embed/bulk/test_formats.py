"""Output files, without a model: what is in them, and what an interruption leaves."""

from __future__ import annotations

import importlib.util
import json
import os
import stat
import sys

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
