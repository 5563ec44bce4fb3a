"""Texts from files, without a model."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_embed.bulk import rows
from edge_embed.bulk.rows import Fields, _numbered_lines, read_parts
from edge_embed.cli.files import read_texts
from edge_embed.errors import InputError, MissingExtraError

LINES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\ufeff"), min_size=1)
)


def test_text_lines(tmp_path):
    file = tmp_path / "a.txt"
    # A line separator of Unicode and a form feed stay within their line.
    file.write_bytes("\ufeffone\r\n\ntwo \u2028 \x0c still\nlast".encode())
    assert read_texts(str(file)).texts == ["one", "", "two \u2028 \x0c still", "last"]
    file.write_bytes(b"")
    assert read_texts(str(file)).texts == []


@given(LINES)
def test_every_text_comes_back_from_its_line(texts):
    stream = io.BytesIO("".join(f"{text}\n" for text in texts).encode())
    assert [line.decode() for _, line in _numbered_lines(stream, "x")] == texts


@given(LINES, st.integers(1, 5), st.integers(0, 6))
def test_parts_are_the_whole_in_pieces(tmp_path_factory, texts, size, skip):
    file = tmp_path_factory.getbasetemp() / "parts.txt"
    file.write_bytes("".join(f"{text}\n" for text in texts).encode())
    parts = list(read_parts(str(file), size=size, skip=skip))
    assert [text for part in parts for text in part.texts] == texts[skip:]
    assert [row for part in parts for row in part.rows] == list(range(skip, len(texts)))
    assert all(part.size <= size for part in parts)


@pytest.mark.parametrize(("suffix", "opener"), [(".gz", gzip.open), (".xz", lzma.open)])
def test_compressed_files(tmp_path, suffix, opener):
    file = tmp_path / f"a.jsonl{suffix}"
    with opener(file, "wb") as stream:
        stream.write(b'{"text": "a"}\n{"text": "b"}\n')
    assert read_texts(str(file)).texts == ["a", "b"]
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged"):
        read_texts(str(file))
    file.write_bytes(b"not compressed")
    with pytest.raises(InputError, match=f"a.jsonl{suffix}"):
        read_texts(str(file))


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_compressed_file_that_is_damaged_in_the_middle(tmp_path, suffix, damage):
    """What comes before the damage is given first: a run keeps it."""
    file = tmp_path / f"a.txt{suffix}"
    lines = [f"{number} {number * 7919 % 10007}" for number in range(100_000)]
    with {".gz": gzip.open, ".xz": lzma.open}[suffix](file, "wb") as stream:
        stream.write("\n".join(lines).encode())
    data = bytearray(file.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    file.write_bytes(data)
    given = []
    with pytest.raises(InputError, match=rf"a\.txt{suffix}"):
        given.extend(part.texts for part in read_parts(str(file), size=100))
    given = [text for texts in given for text in texts]
    assert len(given) > 10_000
    if damage == "cut":  # the checksum of a block comes after it
        assert given == lines[: len(given)]


@pytest.mark.parametrize("suffix", [".txt", ".parquet"])
def test_long_rows_make_parts_of_fewer_rows(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(rows, "PART_BYTES", 1000)
    file = tmp_path / f"a{suffix}"
    texts = [f"{number:03}" * 100 for number in range(20)]
    if suffix == ".txt":
        file.write_text("\n".join(texts))
    else:
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table({"text": texts}), file, compression="none")
    parts = list(read_parts(str(file)))
    assert [text for part in parts for text in part.texts] == texts
    assert max(part.size for part in parts) <= 4
    assert [text for part in read_parts(str(file), skip=5) for text in part.texts] == texts[5:]


@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_wrong_encoding_names_line_and_byte(tmp_path, suffix):
    file = tmp_path / f"a{suffix}"
    file.write_bytes(b'{"text": "fine"}\n{"text": "caf\xe9"}\n')
    with pytest.raises(InputError) as caught:
        read_texts(str(file))
    assert str(file) in str(caught.value)
    assert "byte 0xe9 in line 2, at byte 13 of the line" in str(caught.value)


@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_a_file_without_line_feeds_is_not_read_as_a_whole(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(rows, "MOST_LINE", 100)
    file = tmp_path / f"a{suffix}"
    line = '{"text": "' + "a" * 88 + '"}\n'
    assert len(line) == 101
    file.write_text(line[:-1] + "\n" + line[1:])
    with pytest.raises(InputError, match="line 1: too long"):
        list(read_parts(str(file)))
    line = line.replace("aa", "a", 1)
    file.write_text(line * 2)
    assert sum(part.size for part in read_parts(str(file))) == 2
    file.write_text(line + line[:-1] * 2)
    with pytest.raises(InputError, match="line 2: too long"):
        list(read_parts(str(file)))


def test_utf16_is_recognized(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("hello", encoding="utf-16")
    with pytest.raises(InputError, match="UTF-16"):
        read_texts(str(file))


def test_jsonl_fields_titles_and_records(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"id": 1, "body": "é", "t": null}\n\n{"body": "b", "t": "T"}\n{"body": ""}\n', "utf-8")
    texts = read_texts(str(file), "body", "t")
    assert texts.texts == ["é", "b", ""]
    assert texts.titles == [None, "T", None]
    assert texts.records[0] == {"id": 1, "body": "é", "t": None}


BAD_LINES = [
    ("{", "not JSON"),
    ("[" * 200_000, "not JSON"),
    ('"text"', "not a JSON object"),
    ("{}", "no field 'text'"),
    ('{"body": "x"}', "got: body"),
    ('{"text": 5}', "is not a string"),
    ('{"text": null}', "NoneType"),
    ('{"text": "a\\ud800"}', "surrogate pair at character 1"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
def test_a_bad_line_is_named(tmp_path, line, message):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "ok"}\n\n' + line + "\n")
    with pytest.raises(InputError) as caught:
        read_texts(str(file))
    assert f"{file}, line 3: " in str(caught.value)
    assert message in str(caught.value)


def test_bad_lines_are_set_aside_on_request(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(
        b'{"text": "a"}\n' + b"\n".join(line.encode() for line, _ in BAD_LINES) + b'\n\xff\n{"text": "z"}\n'
    )
    (part,) = read_parts(str(file), keep_bad=True)
    assert (part.texts, part.rows) == (["a", "z"], [0, len(BAD_LINES) + 2])
    assert [bad.row for bad in part.bad] == list(range(1, len(BAD_LINES) + 2))
    assert part.bad[0].place == f"{file}, line 2"
    assert "not UTF-8" in part.bad[-1].reason


@pytest.mark.parametrize(
    "name", ["missing.txt", "missing.jsonl", "folder.txt", "a.docx", "bare", "x.parquet.gz"]
)
def test_input_that_cannot_be_read(tmp_path, name):
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(InputError, match=name):
        read_texts(str(tmp_path / name))


def test_plain_text_has_no_fields(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match="no fields"):
        read_texts(str(tmp_path / "a.txt"), "text")


def test_stdin_is_lines_or_jsonl(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'{"a": "x"}\n')))
    assert read_texts("-", "a").texts == ["x"]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"x\ny\n")))
    assert read_texts("-").texts == ["x", "y"]


def test_a_line_of_a_pipe_does_not_wait_for_others(monkeypatch):
    reading, writing = os.pipe()
    with open(reading, "rb") as stream, open(writing, "wb", buffering=0) as pipe:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stream))
        pipe.write(b"one\n")
        parts = read_parts("-", size=100, eager=True)
        assert next(parts).texts == ["one"]
        pipe.write(b"two\nthree\n")
        time.sleep(0.2)
        assert next(parts).texts == ["two", "three"]
        pipe.write(b"\xff\n")
        with pytest.raises(InputError, match="line 4"):
            next(parts)


def test_without_pyarrow_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"edge-embed\[parquet\]"):
        read_texts("a.parquet")


def test_parquet_by_row_groups(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"body": list("abcdefg"), "t": ["T", None] * 3 + ["U"]})
    parquet.write_table(table, path, row_group_size=3)
    parts = list(read_parts(str(path), Fields("body", "t"), size=2, skip=3))
    assert [text for part in parts for text in part.texts] == list("defg")
    assert [title for part in parts for title in part.titles] == [None, "T", None, "U"]
    assert [row for part in parts for row in part.rows] == [3, 4, 5, 6]


def test_bad_parquet_is_named(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    path.write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"a\.parquet"):
        read_texts(str(path))
    parquet.write_table(pyarrow.table({"text": ["a", None], "n": [1, 2]}), path)
    with pytest.raises(InputError, match="row 2: the field 'text' is not a string"):
        read_texts(str(path))
    (part,) = read_parts(str(path), keep_bad=True)
    assert (part.texts, part.table["n"].to_pylist(), part.bad[0].row) == (["a"], [1], 1)
    with pytest.raises(InputError, match="no column 'body'"):
        read_texts(str(path), "body")
    with pytest.raises(InputError, match=r"missing\.parquet"):
        read_texts(str(tmp_path / "missing.parquet"))


def test_a_parquet_file_says_which_columns_it_lacks(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table([["a"], ["b"]], names=["text", "text"]), path)
    with pytest.raises(InputError, match="two columns 'text'"):
        list(read_parts(str(path)))
    with pytest.raises(InputError, match="no column 'body'"):
        list(read_parts(str(path), Fields("body")))


def test_parquet_without_a_row_has_its_columns(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), path)
    (part,) = read_parts(str(path))
    assert (part.size, part.texts, part.table.column_names) == (0, [], ["text"])


MEMORY = """
import resource, sys
from edge_embed.bulk.rows import read_parts
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = sum(part.size for part in read_parts(sys.argv[1]))
print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


def test_a_row_group_is_not_held_as_a_whole(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    letters = np.random.default_rng(0).integers(97, 123, (200_000, 1000), np.uint8)
    texts = pyarrow.array([row.tobytes().decode() for row in letters])
    parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=len(texts), compression="none")
    assert parquet.ParquetFile(path).num_row_groups == 1
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True
    )
    count, memory = map(int, done.stdout.split())
    assert count == len(texts)
    assert memory < path.stat().st_size / 2, f"{memory / 1e6:.0f} MB for {path.stat().st_size / 1e6:.0f} MB"
