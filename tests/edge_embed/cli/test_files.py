"""Texts in and vectors out, without a model."""

import io
import json
import os
import stat
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from edge_embed.cli import files
from edge_embed.errors import InputError, MissingExtraError

VECTORS = np.array([[0.1, -2.5e-8], [1.0, 3.4e38]], dtype=np.float32)


def test_text_lines(tmp_path):
    file = tmp_path / "a.txt"
    # A line separator of Unicode and a form feed stay within their line.
    file.write_bytes("\ufeffone\r\n\ntwo \u2028 \x0c still\nlast".encode())
    assert files.read_texts(str(file)).texts == ["one", "", "two \u2028 \x0c still", "last"]
    file.write_bytes(b"")
    assert files.read_texts(str(file)).texts == []


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\ufeff"), min_size=1))
)
def test_every_text_comes_back_from_its_line(texts):
    data = "".join(f"{text}\n" for text in texts).encode()
    assert [text for _, text in files._lines(data, "x")] == texts


@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_wrong_encoding_names_line_and_byte(tmp_path, suffix):
    file = tmp_path / f"a{suffix}"
    file.write_bytes(b'{"text": "fine"}\n{"text": "caf\xe9"}\n')
    with pytest.raises(InputError) as caught:
        files.read_texts(str(file))
    assert str(file) in str(caught.value)
    assert "byte 0xe9 in line 2, at byte 30" in str(caught.value)
    assert file.read_bytes()[30] == 0xE9


def test_utf16_is_recognized(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("hello", encoding="utf-16")
    with pytest.raises(InputError, match="UTF-16"):
        files.read_texts(str(file))


def test_jsonl_fields_titles_and_records(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"id": 1, "body": "é", "t": null}\n\n{"body": "b", "t": "T"}\n{"body": ""}\n', "utf-8")
    texts = files.read_texts(str(file), "body", "t")
    assert texts.texts == ["é", "b", ""]
    assert texts.titles == [None, "T", None]
    assert texts.records[0] == {"id": 1, "body": "é", "t": None}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[" * 200_000, "not JSON"),
        ('"text"', "not a JSON object"),
        ("{}", "no field 'text'"),
        ('{"body": "x"}', "got: body"),
        ('{"text": 5}', "is not a string"),
        ('{"text": null}', "NoneType"),
        ('{"text": "a\\ud800"}', "surrogate pair at character 1"),
    ],
)
def test_bad_jsonl_line_is_named(tmp_path, line, message):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "ok"}\n\n' + line + "\n")
    with pytest.raises(InputError) as caught:
        files.read_texts(str(file))
    assert f"{file}, line 3: " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["missing.txt", "missing.jsonl", "folder.txt", "notes.docx", "bare"])
def test_input_that_cannot_be_read(tmp_path, name):
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(InputError, match=name):
        files.read_texts(str(tmp_path / name))


def test_plain_text_has_no_fields(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match="no fields"):
        files.read_texts(str(tmp_path / "a.txt"), "text")


def test_stdin_is_lines_or_jsonl(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'{"a": "x"}\n')))
    assert files.read_texts("-", "a").texts == ["x"]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"x\ny\n")))
    assert files.read_texts("-").texts == ["x", "y"]


@given(st_numpy.arrays(np.float32, 5, elements=st.floats(allow_nan=False, allow_infinity=False, width=32)))
def test_json_numbers_are_exact(vector):
    back = np.array(json.loads(json.dumps(files.numbers(vector))), dtype=np.float32)
    assert back.tobytes() == vector.tobytes()


def test_npy(tmp_path):
    path = tmp_path / "v.npy"
    files.write_vectors(path, files.Texts.of(["a", "b"]), VECTORS)
    loaded = np.load(path)
    assert loaded.dtype == np.float32
    assert np.array_equal(loaded, VECTORS)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_jsonl_carries_the_record_on(tmp_path):
    path = tmp_path / "v.jsonl"
    texts = files.Texts(["ü", "b"], records=[{"id": 7, "body": "ü"}, {"body": "b", "embedding": "old"}])
    files.write_vectors(path, texts, VECTORS)
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert lines[0] == {"id": 7, "body": "ü", "embedding": lines[0]["embedding"]}
    assert np.array_equal(np.array([line["embedding"] for line in lines], np.float32), VECTORS)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, error):
    path = tmp_path / "v.npy"
    path.write_bytes(b"old")

    def fail(file, vectors):
        file.write(b"half")
        raise error

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(InputError if isinstance(error, OSError) else KeyboardInterrupt):
        files.write_vectors(path, files.Texts.of(["a"]), VECTORS[:1])
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link.npy").symlink_to(tmp_path / "real.npy")
    files.write_vectors(tmp_path / "link.npy", files.Texts.of(["a", "b"]), VECTORS)
    assert (tmp_path / "link.npy").is_symlink()
    assert np.array_equal(np.load(tmp_path / "real.npy"), VECTORS)


@pytest.mark.parametrize("name", ["v.csv", "v", "gone/v.npy", "folder.npy"])
def test_output_is_refused_before_any_work(tmp_path, name):
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(InputError):
        files.check_output(tmp_path / name)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    for call in (lambda: files.read_texts("a.parquet"), lambda: files.check_output(tmp_path / "a.parquet")):
        with pytest.raises(MissingExtraError, match=r"edge-embed\[parquet\]"):
            call()


def test_parquet_keeps_columns_and_types(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    source, target = tmp_path / "a.parquet", tmp_path / "b.parquet"
    table = pyarrow.table(
        {"id": pyarrow.array([1, 2], pyarrow.int16()), "body": ["x", "y"], "t": ["T", None]}
    )
    pyarrow.parquet.write_table(table, source)
    texts = files.read_texts(str(source), "body", "t")
    assert (texts.texts, texts.titles) == (["x", "y"], ["T", None])
    files.write_vectors(target, texts, VECTORS)
    back = pyarrow.parquet.read_table(target)
    assert back.schema.field("id").type == pyarrow.int16()
    assert np.array_equal(np.array(back["embedding"].to_pylist(), np.float32), VECTORS)
    again = files.read_texts(str(target), "body")
    files.write_vectors(target, again, VECTORS * 2**-3)
    assert pyarrow.parquet.read_table(target).column_names == ["id", "body", "t", "embedding"]


def test_jsonl_to_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    path = tmp_path / "b.parquet"
    files.write_vectors(
        path, files.Texts(["a", "b"], records=[{"text": "a"}, {"text": "b", "n": 1}]), VECTORS
    )
    assert pyarrow.parquet.read_table(path)["n"].to_pylist() == [None, 1]
    files.write_vectors(path, files.Texts.of([]), np.zeros((0, 4), np.float32))
    assert pyarrow.parquet.read_table(path).num_rows == 0
    with pytest.raises(InputError, match="do not fit"):
        files.write_vectors(path, files.Texts(["a", "b"], records=[{"n": "a"}, {"n": 1}]), VECTORS)


def test_bad_parquet_is_named(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    path.write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"a\.parquet"):
        files.read_texts(str(path))
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a", None], "n": [1, 2]}), path)
    with pytest.raises(InputError, match="row 2: the field 'text' is not a string"):
        files.read_texts(str(path))
    with pytest.raises(InputError, match="no column 'body'"):
        files.read_texts(str(path), "body")
    with pytest.raises(InputError, match=r"missing\.parquet"):
        files.read_texts(str(tmp_path / "missing.parquet"))
