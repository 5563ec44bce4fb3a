"""Development sets, in the layouts that `edge_embed eval` reads.

similarity   FILE.tsv with a header that has sentence1, sentence2 and score
retrieval    a directory in BEIR's layout: corpus.jsonl, queries.jsonl and qrels.tsv or qrels/test.tsv
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_embed.errors import InputError


@dataclass(frozen=True)
class Pairs:
    """Pairs of sentences with the similarity that people gave them."""

    name: str
    left: list[str]
    right: list[str]
    scores: list[float]


@dataclass(frozen=True)
class Ranking:
    """Queries, documents, and which documents answer which query."""

    name: str
    queries: dict[str, str]
    documents: dict[str, str]
    relevant: dict[str, set[str]]


DevSet = Pairs | Ranking


def read_sets(paths: Sequence[str | Path]) -> list[DevSet]:
    """Reads development sets; each is named like its file or directory.

    Raises:
        InputError: If a set is absent, empty or malformed, or two have one name.
    """
    sets = [_read(Path(path).expanduser()) for path in paths]
    names = [each.name for each in sets]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError("two development sets have the same name", got=twice, fix="rename one of them")
    return sets


def _read(path: Path) -> DevSet:
    if path.is_dir():
        return _read_ranking(path)
    if path.suffix == ".tsv" and path.is_file():
        return _read_pairs(path)
    raise InputError(
        f"{path} is not a development set",
        got="nothing there" if not path.exists() else f"the ending {path.suffix!r}",
        expected="a .tsv with the header sentence1, sentence2, score, or a directory with corpus.jsonl, "
        "queries.jsonl and qrels.tsv",
    )


def _read_pairs(path: Path) -> Pairs:
    rows = list(_lines(path))
    header = rows[0][1].split("\t") if rows else []
    wanted = ("sentence1", "sentence2", "score")
    if not set(wanted) <= set(header):
        raise InputError(f"{path} has no such columns", got=", ".join(header), expected=", ".join(wanted))
    columns = [header.index(name) for name in wanted]
    left, right, scores = [], [], []
    for number, line in rows[1:]:
        fields = line.split("\t")
        try:
            one, two, value = (fields[column] for column in columns)
            score = float(value)
        except (IndexError, ValueError) as error:
            raise InputError(f"line {number} of {path} cannot be read", got=line[:80]) from error
        if not math.isfinite(score):
            raise InputError(
                f"line {number} of {path} has no finite score", got=value[:80], expected="a number"
            )
        left.append(one)
        right.append(two)
        scores.append(score)
    if len(scores) < 2:
        raise InputError(f"{path} holds too few pairs", got=str(len(scores)), expected="2 or more")
    if len(set(scores)) < 2:
        raise InputError(
            f"the scores of {path} do not differ, so nothing correlates with them",
            got=f"{scores[0]:g} in all {len(scores)} rows",
            expected="two different scores or more",
        )
    return Pairs(path.stem, left, right, scores)


def _read_ranking(path: Path) -> Ranking:
    documents = {
        str(record["_id"]): " ".join(filter(None, (record.get("title"), record["text"])))
        for record in _records(path / "corpus.jsonl")
    }
    queries = {str(record["_id"]): record["text"] for record in _records(path / "queries.jsonl")}
    place = next((p for p in (path / "qrels.tsv", path / "qrels" / "test.tsv") if p.is_file()), None)
    if place is None:
        raise InputError(f"{path} has no relevance judgements", expected="qrels.tsv or qrels/test.tsv")
    relevant: dict[str, set[str]] = {}
    for number, line in list(_lines(place))[1:]:
        try:
            query, document, value = line.split("\t")
            if float(value) > 0 and query in queries and document in documents:
                relevant.setdefault(query, set()).add(document)
        except ValueError as error:
            raise InputError(f"line {number} of {place} cannot be read", got=line[:80]) from error
    if not relevant:
        raise InputError(f"no query of {path} has a relevant document")
    return Ranking(path.name, {query: queries[query] for query in relevant}, documents, relevant)


def _records(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in _lines(path):
        try:
            record = json.loads(line)
            record["_id"], record["text"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(
                f"line {number} of {path} cannot be read",
                got=line[:80],
                expected='a JSON object with "_id" and "text"',
            ) from error
        for name in ("text", "title"):
            value = record.get(name)
            if not isinstance(value, str) and (name == "text" or value is not None):
                raise InputError(
                    f"line {number} of {path} has a {name!r} that is no text",
                    got=json.dumps(value)[:80],
                    expected=f'{{"_id": …, "{name}": "a text in quotes"}}',
                )
        yield record


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig") as lines:  # some programs begin a file with a byte order mark
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line.rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read", got=str(error)) from error
