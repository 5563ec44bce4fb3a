"""Evaluation data of four kinds. The layout decides the kind; everything is checked before it is embedded.

    sentence similarity   FILE.tsv with a header that has sentence1, sentence2 and score
    bitext                FILE.tsv without a header, a sentence and its translation per line
    retrieval             a directory in BEIR's layout: corpus.jsonl, queries.jsonl, and qrels.tsv or
                          qrels/test.tsv
    classification        a directory with train.tsv and test.tsv, each with a header that has text and label

The fields of a TSV are not quoted. Every error names the file and, if possible, the line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_embed.errors import InputError

STS_COLUMNS = ("sentence1", "sentence2", "score")
CLASSIFICATION_COLUMNS = ("text", "label")
QRELS_COLUMNS = ("query-id", "corpus-id", "score")
QRELS_PLACES = ("qrels.tsv", "qrels/test.tsv")

LAYOUTS = (
    "a .tsv with the header sentence1, sentence2, score; a .tsv of two columns without header; a directory "
    "with corpus.jsonl, queries.jsonl and qrels.tsv; or one with train.tsv and test.tsv"
)


@dataclass(frozen=True)
class Similarity:
    """Pairs of sentences, each with the similarity that people gave it.

    Attributes:
        name: The set's name in reports.
    """

    name: str
    left: list[str]
    right: list[str]
    scores: list[float]

    kind = "similarity"


@dataclass(frozen=True)
class Bitext:
    """Sentences and their translations, line by line."""

    name: str
    source: list[str]
    target: list[str]

    kind = "bitext"


@dataclass(frozen=True)
class Retrieval:
    """Queries, documents, and which documents answer which query.

    Attributes:
        titles: One per document, empty if it has none.
        queries: The queries that have a relevant document; the others cannot be scored.
        qrels: Relevance by query id and document id.
    """

    name: str
    document_ids: list[str]
    titles: list[str]
    documents: list[str]
    query_ids: list[str]
    queries: list[str]
    qrels: dict[str, dict[str, int]]

    kind = "retrieval"


@dataclass(frozen=True)
class Classification:
    """Labelled texts for training and for testing."""

    name: str
    train_texts: list[str]
    train_labels: list[str]
    test_texts: list[str]
    test_labels: list[str]

    kind = "classification"


Dataset = Similarity | Bitext | Retrieval | Classification


def read(path: str | Path) -> Dataset:
    """Reads a set of any kind.

    Raises:
        InputError: If the layout is unknown or ambiguous, or a line cannot be used.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        return _read_directory(place)
    if place.suffix.lower() != ".tsv" and place.is_file():
        raise InputError(
            f"cannot tell what {place} holds", got=f"the ending {place.suffix!r}", expected=LAYOUTS
        )
    return _read_pairs(place)


def read_all(paths: Sequence[str | Path]) -> list[Dataset]:
    """Reads several sets. If two have the same name, the name of the directory is put before it.

    Raises:
        InputError: As `read`, or if there are none or one is given twice.
    """
    if not paths:
        raise InputError("there is no data to evaluate on", expected=LAYOUTS)
    places = [Path(path).expanduser() for path in paths]
    seen: set[Path] = set()
    for place in places:
        if place.resolve() in seen:
            raise InputError(f"{place} is given twice", fix="name each set once")
        seen.add(place.resolve())
    sets = [read(place) for place in places]
    names = [data.name for data in sets]
    sets = [
        replace(data, name=f"{place.resolve().parent.name}/{data.name}")
        if names.count(data.name) > 1
        else data
        for data, place in zip(sets, places, strict=True)
    ]
    if len({data.name for data in sets}) < len(sets):
        raise InputError(
            "two sets have the same name", got=", ".join(data.name for data in sets), fix="rename one"
        )
    return sets


def _read_directory(place: Path) -> Dataset:
    beir = any((place / name).is_file() for name in ("corpus.jsonl", "queries.jsonl", *QRELS_PLACES))
    labelled = any((place / name).is_file() for name in ("train.tsv", "test.tsv"))
    if beir and labelled:
        raise InputError(
            f"{place} has two layouts at once",
            got=", ".join(sorted(p.name for p in place.iterdir())[:8]),
            expected="the files of retrieval or those of classification",
            fix="put each into a directory of its own",
        )
    if beir:
        return _read_retrieval(place)
    if labelled:
        return _read_classification(place)
    names = sorted(p.name for p in place.iterdir())
    fix = "name the .tsv files one by one" if any(name.endswith(".tsv") for name in names) else None
    raise InputError(
        f"{place} has no known layout",
        got=", ".join(names[:8]) or "an empty directory",
        expected=LAYOUTS,
        fix=fix,
    )


def _read_pairs(place: Path) -> Similarity | Bitext:
    rows = list(_rows(place))
    if not rows:
        raise InputError(f"{place} is empty", expected=LAYOUTS)
    header = rows[0][1]
    if "sentence1" in header or "score" in header:
        return _read_similarity(place, rows)
    for number, cells in rows:
        if len(cells) != 2:
            raise InputError(
                f"{place}, line {number}: not a pair of sentences",
                got=f"{len(cells)} columns",
                expected="two columns, or a header with sentence1, sentence2, score",
            )
        if blank := [i for i, cell in enumerate(cells, 1) if not cell.strip()]:
            raise InputError(
                f"{place}, line {number}: an empty sentence", got=f"nothing in column {blank[0]}"
            )
    if len(rows) < 2:
        raise InputError(f"{place} has too few pairs", got="1", expected="at least 2")
    return Bitext(place.stem, [cells[0] for _, cells in rows], [cells[1] for _, cells in rows])


def _read_similarity(place: Path, rows: list[tuple[int, list[str]]]) -> Similarity:
    table = _columns(place, rows, STS_COLUMNS)
    scores = []
    for number, (_, _, text) in table:
        score = _number(text)
        if score is None:
            raise InputError(f"{place}, line {number}: the score is not a number", got=repr(text))
        scores.append(score)
    if len(set(scores)) < 2:
        raise InputError(
            f"{place} has no two different scores", got=f"{len(scores)} pairs", expected="at least 2 to rank"
        )
    return Similarity(place.stem, [c[0] for _, c in table], [c[1] for _, c in table], scores)


def _read_classification(place: Path) -> Classification:
    parts = {}
    for part in ("train", "test"):
        file = place / f"{part}.tsv"
        parts[part] = _columns(file, list(_rows(file)), CLASSIFICATION_COLUMNS)
        for number, (_, label) in parts[part]:
            if not label.strip():
                raise InputError(f"{file}, line {number}: an empty label")
    known = {label for _, (_, label) in parts["train"]}
    if len(known) < 2:
        raise InputError(
            f"{place / 'train.tsv'} has one label only", got=", ".join(known), expected="at least 2"
        )
    for number, (_, label) in parts["test"]:
        if label not in known:
            raise InputError(
                f"{place / 'test.tsv'}, line {number}: a label that train.tsv does not have", got=repr(label)
            )
    train, test = ([cells for _, cells in parts[part]] for part in ("train", "test"))
    return Classification(
        place.resolve().name,
        [c[0] for c in train],
        [c[1] for c in train],
        [c[0] for c in test],
        [c[1] for c in test],
    )


def _read_retrieval(place: Path) -> Retrieval:
    corpus = _read_records(place / "corpus.jsonl")
    queries = _read_records(place / "queries.jsonl")
    found = [place / name for name in QRELS_PLACES if (place / name).is_file()]
    if len(found) != 1:
        raise InputError(
            f"{place} has {'two files' if found else 'no file'} of judgements",
            expected=" or ".join(QRELS_PLACES),
        )
    qrels = _read_qrels(found[0], set(corpus), set(queries))
    asked = [key for key in queries if any(grade > 0 for grade in qrels.get(key, {}).values())]
    if not asked:
        raise InputError(f"{found[0]} names no relevant document for any query")
    return Retrieval(
        place.resolve().name,
        list(corpus),
        [title for title, _ in corpus.values()],
        [text for _, text in corpus.values()],
        asked,
        [queries[key][1] for key in asked],
        {key: qrels[key] for key in asked},
    )


def _read_records(file: Path) -> dict[str, tuple[str, str]]:
    """Returns title and text by id."""
    records: dict[str, tuple[str, str]] = {}
    for number, line in _lines(file):
        where = f"{file}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: not JSON", got=str(error)) from error
        if not isinstance(record, dict):
            raise InputError(f"{where}: not a JSON object", got=type(record).__name__)
        key, text = _string(record, "_id", where), _string(record, "text", where)
        title = _string(record, "title", where) if record.get("title") is not None else ""
        if not key:
            raise InputError(f"{where}: an empty id")
        if key in records:
            raise InputError(f"{where}: the id {key!r} is there twice", expected="ids that occur once")
        records[key] = (title, text)
    if not records:
        raise InputError(f"{file} is empty", expected="one JSON object per line")
    return records


def _string(record: dict[str, Any], name: str, where: str) -> str:
    value = record.get(name)
    if not isinstance(value, str):
        got = "nothing" if name not in record else type(value).__name__
        raise InputError(f"{where}: {name!r} is not a string", got=got)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: {name!r} is not valid Unicode",
            got=f"half of a surrogate pair at character {error.start}",
        ) from error
    return value


def _read_qrels(file: Path, documents: set[str], queries: set[str]) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for number, (query, document, text) in _columns(file, list(_rows(file)), QRELS_COLUMNS):
        where = f"{file}, line {number}"
        if query not in queries:
            raise InputError(f"{where}: a query that queries.jsonl does not have", got=repr(query))
        if document not in documents:
            raise InputError(f"{where}: a document that corpus.jsonl does not have", got=repr(document))
        grade = _number(text)
        if grade is None or grade != int(grade):
            raise InputError(f"{where}: the score is not a whole number", got=repr(text))
        if document in qrels.setdefault(query, {}):
            raise InputError(f"{where}: the pair {query!r}, {document!r} is judged twice")
        qrels[query][document] = int(grade)
    return qrels


def _columns(
    file: Path, rows: list[tuple[int, list[str]]], names: Sequence[str]
) -> list[tuple[int, list[str]]]:
    """Returns the named columns of every row below the header, each row with its line number."""
    if not rows:
        raise InputError(f"{file} is empty", expected=f"a header with {', '.join(names)}")
    number, header = rows[0]
    if missing := [name for name in names if header.count(name) != 1]:
        raise InputError(
            f"{file}, line {number}: the header lacks a column or has it twice",
            got=", ".join(header)[:200],
            expected=f"{', '.join(names)}, of which {missing[0]} once",
        )
    places = [header.index(name) for name in names]
    table = []
    for number, cells in rows[1:]:
        if len(cells) != len(header):
            raise InputError(
                f"{file}, line {number}: not as many columns as the header",
                got=str(len(cells)),
                expected=str(len(header)),
            )
        table.append((number, [cells[i] for i in places]))
    if not table:
        raise InputError(f"{file} has a header and nothing below it")
    return table


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in _lines(file):
        yield number, line.split("\t")


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yields the numbered lines that are not empty, as UTF-8. Only a line feed ends a line."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {file}", got=error.strerror or str(error)) from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{file}, line 1: not UTF-8", got="UTF-16", fix="iconv -f UTF-16 -t UTF-8")
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            text = line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{file}, line {number}: not UTF-8",
                got=f"byte 0x{line[error.start]:02x} at position {error.start}",
                fix="iconv -f ENCODING -t UTF-8, with the encoding that the file has",
            ) from error
        if text.strip():
            yield number, text
