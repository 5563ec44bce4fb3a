"""Development sets: what is read, and what is refused before a run would end without a score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_embed.errors import InputError
from edge_embed_train.evaluate.sets import Pairs, Ranking, read_sets

HEADER = "sentence1\tsentence2\tscore\n"


def _pairs(directory: Path, scores: list[Any], before: str = "") -> Path:
    path = directory / "dev.tsv"
    lines = (f"left {place}\tright {place}\t{score}\n" for place, score in enumerate(scores))
    path.write_text(before + HEADER + "".join(lines), "utf-8")
    return path


def _ranking(directory: Path, before: str = "", **changes: Any) -> Path:
    path = directory / "beir"
    path.mkdir()
    corpus = [{"_id": "d1", "text": "one"}, {"_id": "d2", "title": "Two", "text": "two"}]
    queries = [{"_id": 1, "text": "which"}]
    for name, records in {"corpus": corpus, "queries": queries, **changes}.items():
        lines = (each if isinstance(each, str) else json.dumps(each) for each in records)
        (path / f"{name}.jsonl").write_text(before + "\n".join(lines), "utf-8")
    (path / "qrels.tsv").write_text(before + "query-id\tcorpus-id\tscore\n1\td2\t1\n", "utf-8")
    return path


@pytest.mark.parametrize("before", ["", "\ufeff"], ids=["plain", "byte order mark"])
def test_sets_are_read(before: str, tmp_path: Path) -> None:
    found = read_sets([_pairs(tmp_path, [*range(8)], before), _ranking(tmp_path, before)])
    assert found == [
        Pairs(
            "dev", [f"left {i}" for i in range(8)], [f"right {i}" for i in range(8)], [*map(float, range(8))]
        ),
        Ranking("beir", {"1": "which"}, {"d1": "one", "d2": "Two two"}, {"1": {"d2"}}),
    ]


@pytest.mark.parametrize("score", ["nan", "inf", "-inf"])
def test_scores_that_are_not_finite_are_refused(score: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"line 3 of .* has no finite score\n.*{score}"):
        read_sets([_pairs(tmp_path, [1, score, 2])])


def test_scores_that_do_not_differ_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"do not differ(.|\n)*2.5 in all 3 rows"):
        read_sets([_pairs(tmp_path, [2.5, 2.5, 2.50])])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"corpus": [{"_id": "d1", "text": "a"}, {"_id": "d2", "text": 5}]},
            "line 2 of .*corpus.jsonl .*'text'",
        ),
        ({"corpus": [{"_id": "d2", "text": ["a"]}]}, "line 1 of .*corpus.jsonl .*'text'"),
        ({"corpus": [{"_id": "d2", "text": None}]}, "line 1 of .*corpus.jsonl .*'text'"),
        ({"corpus": [{"_id": "d2", "title": 5, "text": "a"}]}, "line 1 of .*corpus.jsonl .*'title'"),
        ({"queries": [{"_id": "1", "text": 5}]}, "line 1 of .*queries.jsonl .*'text'"),
        ({"queries": ["[" * 100_000]}, "line 1 of .*queries.jsonl cannot be read"),
    ],
)
def test_what_is_no_text_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_sets([_ranking(tmp_path, **changes)])


def test_a_title_may_be_null(tmp_path: Path) -> None:
    (found,) = read_sets([_ranking(tmp_path, corpus=[{"_id": "d2", "title": None, "text": "two"}])])
    assert isinstance(found, Ranking)
    assert found.documents == {"d2": "two"}
