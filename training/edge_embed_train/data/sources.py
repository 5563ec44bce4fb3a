"""Where rows come from: JSONL files, plain or compressed with xz or gzip, and data sets of the hub.

A row is one of three:

    a text    {"text": "..."}
    a pair    {"query": "...", "positive": "..."}
    a triple  {"query": "...", "positive": "...", "negative": "..."}

`anchor` is read like `query`, and `negatives` like `negative`. Of a list of negatives the first text is
taken. Other fields are ignored, unless a filter names them.
"""

from __future__ import annotations

import gzip
import json
import lzma
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from edge_embed.errors import InputError

QUERY_FIELDS = ("query", "anchor", "text")
NEGATIVE_FIELDS = ("negative", "negatives")
FIELDS = (*QUERY_FIELDS, "positive", *NEGATIVE_FIELDS)

EXPECTED = '{"text": …}, {"query": …, "positive": …} or {"query": …, "positive": …, "negative": …}'


@dataclass(frozen=True)
class Row:
    """One row: a query or a text, and what belongs to it."""

    query: str
    positive: str | None = None
    negative: str | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts that it has."""
        return tuple(text for text in (self.query, self.positive, self.negative) if text is not None)


@dataclass(frozen=True)
class Source:
    """Where the rows of one data set come from. Exactly one of `path` and `hub` is given.

    Attributes:
        path: A file that ends in .jsonl, .jsonl.xz or .jsonl.gz.
        hub: A data set of the hub, by its id.
        subset: Of the hub's data set.
        split: Of the hub's data set.
        revision: Of the hub's data set.
        where: Keeps only rows whose fields have these values; a list means one of several.
        columns: What the rows call their fields, where it is not as above: `{"query": "question"}`.
        texts_only: Makes every text of a pair or triple a row of its own.
        sentences: Cuts every text into its sentences; each different one is a row of its own.
        variants: Puts versions of a text beside it, 1 or 2, that differ in one or two words; for `distill`,
            with `sentences` or `texts_only`. Words for them are taken from the data; negations, pronouns and
            the like are English.
        every: Keeps each n-th row of the whole source.
        limit: Reads no more rows.
        licence: For the model card.
        attribution: For the model card.
    """

    path: Path | None = None
    hub: str | None = None
    subset: str | None = None
    split: str = "train"
    revision: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    texts_only: bool = False
    sentences: bool = False
    variants: int = 0
    every: int = 1
    limit: int | None = None
    licence: str = "not stated"
    attribution: str = ""

    @property
    def label(self) -> str:
        """What error messages call it."""
        return str(self.path) if self.path is not None else f"the hub's data set {self.hub}"


def read_rows(source: Source) -> Iterator[Row]:
    """Streams the rows of a source, in its order.

    Raises:
        InputError: If the source asks for what cannot be, cannot be read, or a row has no texts or other
            texts than the first.
    """
    _check(source)
    found = matching = 0
    shape: int | None = None
    for number, record in _records(source):
        if any(not _matches(record.get(key), wanted) for key, wanted in source.where.items()):
            continue
        matching += 1
        if (matching - 1) % source.every:
            continue
        for row in _rows(record, source, number):
            if source.limit is not None and found >= source.limit:
                return
            if shape is None:
                shape = len(row.texts)
            elif len(row.texts) != shape:
                raise InputError(
                    f"row {number} of {source.label} has {len(row.texts)} texts, and those before it {shape}",
                    got=str(record)[:120],
                    expected="rows of one kind in a data set",
                    fix="split the file, or filter it with `where`",
                )
            found += 1
            yield row
    if not found:
        raise InputError(
            f"{source.label} has no rows",
            got="an empty file" if not source.where else f"no row with {dict(source.where)}",
            expected=EXPECTED,
        )


def _check(source: Source) -> None:
    for name, number in (("every", source.every), ("limit", source.limit)):
        if number is not None and number < 1:
            raise InputError(f"{source.label}: `{name}` is too small", got=str(number), expected="1 or more")
    for name, column in source.columns.items():
        if name not in FIELDS:
            raise InputError(
                f"{source.label}: no such name in `columns`",
                got=str(name),
                expected=", ".join(FIELDS),
                fix='put our name first: `{query = "what the rows call it"}`',
            )
        if not isinstance(column, str):
            raise InputError(
                f"{source.label}: `columns.{name}` is not the name of a field",
                got=repr(column)[:80],
                expected="one text",
            )


def _matches(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, list | tuple) else value == wanted


def _rows(record: Mapping[str, Any], source: Source, number: int) -> Iterator[Row]:
    columns = source.columns

    def text(*names: str) -> str | None:
        for name in names:
            value = record.get(columns.get(name, name))
            for each in value if isinstance(value, list) and name in NEGATIVE_FIELDS else [value]:
                if isinstance(each, str) and each.strip():
                    return _encodable(each, f"row {number} of {source.label}")
        return None

    query = text(*QUERY_FIELDS)
    row = None if query is None else Row(query, text("positive"), text(*NEGATIVE_FIELDS))
    if row is None or (row.positive is None and row.negative is not None):
        raise InputError(
            f"row {number} of {source.label} has no usable texts", got=str(record)[:120], expected=EXPECTED
        )
    if source.texts_only:
        yield from (Row(each) for each in row.texts)
    else:
        yield row


def _encodable(text: str, place: str) -> str:
    """Returns the text, unless it holds half a character, which neither tables nor tokenizers take."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{place} has a text that is not Unicode",
            got=f"{text[error.start]!a}, half of a surrogate pair, after {error.start} characters",
            expected="texts that can be written in UTF-8",
            fix="write the file again without lone surrogates, or remove the row",
        ) from error
    return text


def _records(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    if (source.path is None) == (source.hub is None):
        raise InputError("a data set needs exactly one of `path` and `hub`", got=repr(source))
    if source.hub is not None:
        yield from _hub_records(source)
        return
    assert source.path is not None
    path = source.path.expanduser()
    try:
        with _opened(path) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, _parsed(line, f"line {number} of {path}")
    except (OSError, EOFError, lzma.LZMAError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read", got=str(error)) from error


def _parsed(line: str, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # the second of brackets in brackets
        record = None
    if not isinstance(record, dict):
        raise InputError(f"{place} is not a JSON object", got=line[:80].strip(), expected=EXPECTED)
    return record


def _opened(path: Path) -> IO[str]:
    name, encoding = path.name, "utf-8-sig"  # some programs begin a file with a byte order mark
    if name.endswith(".jsonl.xz"):
        return lzma.open(path, "rt", encoding=encoding)
    if name.endswith(".jsonl.gz"):
        return gzip.open(path, "rt", encoding=encoding)
    if name.endswith(".jsonl"):
        return path.open(encoding=encoding)
    raise InputError(f"cannot tell what {path} holds", expected="a name that ends in .jsonl, .xz or .gz")


def _hub_records(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    from datasets import load_dataset  # two seconds, and files do not need it

    try:
        stream = load_dataset(
            source.hub, source.subset, split=source.split, revision=source.revision, streaming=True
        )
        yield from enumerate(map(dict, stream), 1)
    except (OSError, ValueError) as error:  # no network, no such data set, no such split
        raise InputError(f"{source.label} cannot be read", got=str(error).splitlines()[0]) from error
