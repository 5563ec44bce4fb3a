"""Reading evaluation data, and saying exactly where it is wrong."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_embed.errors import InputError
from edge_embed_bench.quality.data import Bitext, Classification, Retrieval, Similarity, read, read_all

STS = "sentence1\tsentence2\tscore\na cat\ta dog\t1\na cat\tthe cat\t5.0\n"
CORPUS = [{"_id": "a", "title": "T", "text": "one"}, {"_id": "b", "text": "two"}]
QUERIES = [{"_id": "q1", "text": "which one?"}, {"_id": "q2", "text": "unjudged"}]
QRELS = "query-id\tcorpus-id\tscore\nq1\ta\t1\nq1\tb\t0\n"
TRAIN = "text\tlabel\ngood\tyes\nbad\tno\n"


def write(path: Path, files: Mapping[str, Any]) -> Path:
    for name, content in files.items():
        place = path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(row) + "\n" for row in content) if isinstance(content, list) else content
        place.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refuse(path: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert all(word in message for word in words), message


def test_similarity(tmp_path: Path) -> None:
    file = write(tmp_path, {"set.test.tsv": STS}) / "set.test.tsv"
    assert read(file) == Similarity("set.test", ["a cat", "a cat"], ["a dog", "the cat"], [1.0, 5.0])


def test_columns_are_found_by_name_and_quotes_are_letters(tmp_path: Path) -> None:
    text = '\ufeffscore\tother\tsentence2\tsentence1\r\n2\tx\t"b\ta"\r\n\r\n3\tx\td\tc\u2028\r\n'
    data = read(write(tmp_path, {"s.tsv": text}) / "s.tsv")
    assert data == Similarity("s", ['a"', "c\u2028"], ['"b', "d"], [2.0, 3.0])


def test_bitext(tmp_path: Path) -> None:
    file = write(tmp_path, {"deu-eng.tsv": "ja\tyes\nnein\tno\n"}) / "deu-eng.tsv"
    assert read(file) == Bitext("deu-eng", ["ja", "nein"], ["yes", "no"])


@pytest.mark.parametrize("place", ["qrels.tsv", "qrels/test.tsv"])
def test_retrieval(tmp_path: Path, place: str) -> None:
    folder = write(tmp_path / "set", {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, place: QRELS})
    assert read(folder) == Retrieval(
        "set", ["a", "b"], ["T", ""], ["one", "two"], ["q1"], ["which one?"], {"q1": {"a": 1, "b": 0}}
    )


def test_classification(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", {"train.tsv": TRAIN, "test.tsv": "text\tlabel\nfine\tyes\n"})
    assert read(folder) == Classification("set", ["good", "bad"], ["yes", "no"], ["fine"], ["yes"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["s.tsv is empty"]),
        ("\n\n", ["s.tsv is empty"]),
        ("sentence1\tsentence2\tscore\n", ["nothing below"]),
        ("sentence1\tscore\na\t1\n", ["line 1", "sentence2"]),
        ("sentence1\tsentence2\tsentence2\tscore\n", ["line 1", "twice"]),
        (STS + "x\ty\tmany\n", ["line 4", "not a number", "many"]),
        (STS + "x\ty\tnan\n", ["line 4", "not a number"]),
        (STS + "x\ty\tinf\n", ["line 4", "not a number"]),
        (STS + "x\ty\n", ["line 4", "columns"]),
        ("sentence1\tsentence2\tscore\na\tb\t1\nc\td\t1\n", ["no two different scores"]),
        ("a\tb\nc\td\te\n", ["line 2", "3 columns"]),
        ("a\tb\n\tc\n", ["line 2", "column 1"]),
        ("a\tb\n", ["too few"]),
        (b"a\tb\nc\xff\td\n", ["line 2", "not UTF-8", "0xff"]),
        ("a\tb\nc\td\n".encode("utf-16"), ["UTF-16"]),
    ],
)
def test_bad_pairs(tmp_path: Path, content: str | bytes, words: list[str]) -> None:
    refuse(write(tmp_path, {"s.tsv": content}) / "s.tsv", "s.tsv", *words)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("corpus.jsonl", "", ["corpus.jsonl is empty"]),
        ("corpus.jsonl", [*CORPUS, CORPUS[0]], ["corpus.jsonl, line 3", "'a'", "twice"]),
        ("corpus.jsonl", '{"_id": "a", "text": "x"}\n{nope\n', ["corpus.jsonl, line 2", "not JSON"]),
        ("corpus.jsonl", "[1]\n", ["line 1", "not a JSON object"]),
        ("corpus.jsonl", [{"_id": 7, "text": "x"}], ["line 1", "'_id'", "int"]),
        ("corpus.jsonl", [{"_id": "a"}], ["line 1", "'text'", "nothing"]),
        ("corpus.jsonl", [{"_id": "", "text": "x"}], ["line 1", "empty id"]),
        ("corpus.jsonl", [{"_id": "a", "text": "x", "title": 3}], ["line 1", "'title'"]),
        ("corpus.jsonl", '{"_id": "a", "text": "\\ud800"}\n', ["line 1", "Unicode"]),
        ("queries.jsonl", [*QUERIES, QUERIES[1]], ["queries.jsonl, line 3", "'q2'", "twice"]),
        ("qrels.tsv", QRELS + "q1\tmissing\t1\n", ["qrels.tsv, line 4", "'missing'", "corpus.jsonl"]),
        ("qrels.tsv", QRELS + "q9\ta\t1\n", ["qrels.tsv, line 4", "'q9'", "queries.jsonl"]),
        ("qrels.tsv", QRELS + "q2\ta\thigh\n", ["qrels.tsv, line 4", "whole number", "high"]),
        ("qrels.tsv", QRELS + "q2\ta\t0.5\n", ["qrels.tsv, line 4", "whole number"]),
        ("qrels.tsv", QRELS + "q1\ta\t1\n", ["qrels.tsv, line 4", "twice"]),
        ("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\tb\t0\n", ["no relevant document"]),
        ("qrels.tsv", "q1\ta\t1\n", ["line 1", "query-id"]),
        ("qrels/test.tsv", QRELS, ["two files of judgements"]),
        ("train.tsv", TRAIN, ["two layouts"]),
    ],
)
def test_bad_retrieval(tmp_path: Path, name: str, content: Any, words: list[str]) -> None:
    files = {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, "qrels.tsv": QRELS, name: content}
    refuse(write(tmp_path / "set", files), *words)


@pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl", "qrels.tsv"])
def test_parts_of_retrieval(tmp_path: Path, missing: str) -> None:
    files = {"corpus.jsonl": CORPUS, "queries.jsonl": QUERIES, "qrels.tsv": QRELS}
    del files[missing]
    refuse(write(tmp_path / "set", files), missing)


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        (TRAIN, "text\tlabel\nfine\tmaybe\n", ["test.tsv, line 2", "'maybe'"]),
        (TRAIN, "text\tlabel\nfine\t \n", ["test.tsv, line 2", "empty label"]),
        (TRAIN, "", ["test.tsv is empty"]),
        ("text\tlabel\na\tyes\n", "text\tlabel\nfine\tyes\n", ["train.tsv", "one label"]),
        ("text\tclass\na\tyes\n", TRAIN, ["train.tsv, line 1", "label"]),
    ],
)
def test_bad_classification(tmp_path: Path, train: str, test: str, words: list[str]) -> None:
    refuse(write(tmp_path / "set", {"train.tsv": train, "test.tsv": test}), *words)


def test_unknown_layouts(tmp_path: Path) -> None:
    refuse(tmp_path, "no known layout", "an empty directory", "corpus.jsonl")
    refuse(write(tmp_path / "sts", {"a.tsv": STS}), "no known layout", "a.tsv", "one by one")
    refuse(write(tmp_path / "x", {"a.csv": "a,b"}) / "a.csv", ".csv")
    refuse(tmp_path / "nowhere.tsv", "nowhere.tsv", "No such file")
    refuse(tmp_path / "nowhere", "nowhere", "No such file")
    refuse(write(tmp_path / "half", {"train.tsv": TRAIN}), "test.tsv", "No such file")


def test_names_are_told_apart(tmp_path: Path) -> None:
    one, two = (write(tmp_path / name, {"dev.tsv": STS}) / "dev.tsv" for name in ("en", "de"))
    assert [data.name for data in read_all([one, two])] == ["en/dev", "de/dev"]
    with pytest.raises(InputError, match="twice"):
        read_all([one, one.parent / "." / "dev.tsv"])
    with pytest.raises(InputError, match="no data"):
        read_all([])


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("fuzz") / "s.tsv"
    file.write_bytes(content)
    with contextlib.suppress(InputError):
        assert isinstance(read(file), (Similarity, Bitext))
