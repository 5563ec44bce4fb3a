"""JSONL and Parquet: one document a record, its other fields as metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from edge_embed.errors import MissingExtraError
from edge_embed.retrieval.readers.formats import File, UnreadableError, clean, decode, unreadable
from edge_embed.retrieval.types import Document

ID_FIELDS = ("id", "_id")

_ROWS = 1024


def read_jsonl(file: File) -> Iterator[Document]:
    """Yields the documents of a JSONL file.

    Raises:
        UnreadableError: If a line cannot be used; it is named.
    """
    try:
        with open(file.path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                place = f"line {number}"
                try:
                    record = json.loads(decode(line))
                except (ValueError, RecursionError) as error:
                    raise UnreadableError(f"{place}: not JSON: {error}") from error
                if not isinstance(record, dict):
                    raise UnreadableError(f"{place}: not a JSON object, but {type(record).__name__}")
                yield _document(file, record, number, place)
    except OSError as error:
        raise unreadable(error) from error


def read_parquet(file: File) -> Iterator[Document]:
    """Yields the documents of a Parquet file.

    Raises:
        UnreadableError: If it is no Parquet file, or a row cannot be used.
        MissingExtraError: If pyarrow is not installed.
    """
    try:
        import pyarrow  # an extra
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", extra="parquet", purpose="reading Parquet") from error

    number = 0
    try:
        with open(file.path, "rb") as source:
            for batch in pyarrow.parquet.ParquetFile(source).iter_batches(_ROWS):
                for record in batch.to_pylist():
                    number += 1
                    yield _document(file, record, number, f"row {number}")
    except OSError as error:
        raise unreadable(error) from error
    except pyarrow.ArrowException as error:
        raise UnreadableError(f"a damaged Parquet file: {error}") from error


def _document(file: File, record: Mapping[str, Any], number: int, place: str) -> Document:
    fields = file.fields
    text = record.get(fields.text)
    if not isinstance(text, str):
        got = ", ".join(map(str, record)) if fields.text not in record else type(text).__name__
        raise UnreadableError(f"{place}: no text in the field {fields.text!r} (got: {got})")
    title = record.get(fields.title)
    names = ID_FIELDS if fields.id is None else (fields.id,)
    key = next((name for name in names if record.get(name) not in (None, "")), None)
    if fields.id is not None and key is None:
        raise UnreadableError(f"{place}: no id in the field {fields.id!r}")
    used = {fields.text, fields.title, key}
    metadata = {str(name): _plain(value) for name, value in record.items() if name not in used}
    metadata |= {"path": file.name, "format": file.path.suffix.lower().lstrip(".")}
    label = number if key is None else record[key]
    return Document(
        f"{file.name}#{clean(str(label))}",
        clean(text),
        clean(title).strip() if isinstance(title, str) else "",
        metadata,
        "text",
    )


def _plain(value: Any) -> Any:
    """Returns a value as JSON has it: dates and bytes, which Parquet has, become text."""
    if isinstance(value, Mapping):
        return {clean(str(name)): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return clean(str(value))
