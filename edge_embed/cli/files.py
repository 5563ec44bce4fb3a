"""Texts in, vectors out: plain text, JSONL, `.npy`, and Parquet where pyarrow is installed.

Every error names the file and the line, row or byte. Output is written beside its place and renamed, so a
file is either the old one or the whole new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from edge_embed.errors import InputError, MissingExtraError

STDIN = "-"
EMBEDDING_FIELD = "embedding"
INPUT_SUFFIXES = (".txt", ".jsonl", ".parquet")
OUTPUT_SUFFIXES = (".npy", ".jsonl", ".parquet")

_BYTE_ORDER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}

Vectors = npt.NDArray[np.float32]


@dataclass
class Texts:
    """Texts and what came with them.

    Attributes:
        texts: The texts, in the order of the input.
        titles: A title per text where a field was named for them.
        records: What each text was part of; an output carries it on.
        table: The pyarrow table that they came from, which knows its types better than `records`.
    """

    texts: list[str]
    titles: list[str | None] | None = None
    records: list[dict[str, Any]] = field(default_factory=list)
    table: Any = None

    @classmethod
    def of(cls, texts: Sequence[str]) -> Texts:
        """Returns bare texts."""
        return cls(list(texts), records=[{"text": text} for text in texts])


def read_texts(source: str, text_field: str | None = None, title_field: str | None = None) -> Texts:
    """Reads texts from a file, or from stdin for `-`.

    Args:
        source: A `.txt` (one text per line, empty ones too), `.jsonl` or `.parquet` file, or `-`: JSONL
            where a field is named, plain lines otherwise.
        text_field: The field with the text, by default `text`.
        title_field: The field with the title, if any.

    Raises:
        InputError: If the file cannot be read, or a line cannot be used; it is named.
        MissingExtraError: If it is Parquet and pyarrow is not installed.
    """
    suffix = Path(source).suffix.lower()
    fields = (text_field or "text", title_field)
    if source == STDIN:
        data, name = sys.stdin.buffer.read(), "stdin"
        suffix = ".jsonl" if text_field or title_field else ".txt"
    elif suffix not in INPUT_SUFFIXES:
        raise InputError(
            f"cannot tell what {source} holds",
            got=f"the ending {suffix!r}",
            expected=", ".join(INPUT_SUFFIXES),
        )
    elif suffix == ".parquet":
        return _read_parquet(source, *fields)
    else:
        data, name = _read_bytes(source), source
    if suffix == ".jsonl":
        return _read_jsonl(data, name, *fields)
    if text_field or title_field:
        raise InputError(
            f"{source} is plain text and has no fields", fix="leave --field and --titles-field out"
        )
    return Texts.of([line for _, line in _lines(data, name)])


def check_output(path: Path) -> None:
    """Finds out before any work is done what would keep `path` from being written.

    Raises:
        InputError: If its ending is unknown or its directory is missing or not writable.
        MissingExtraError: If it is Parquet and pyarrow is not installed.
    """
    if path.suffix.lower() not in OUTPUT_SUFFIXES:
        raise InputError(
            f"cannot tell what to write to {path}",
            got=f"the ending {path.suffix!r}",
            expected=", ".join(OUTPUT_SUFFIXES),
        )
    if path.suffix.lower() == ".parquet":
        _pyarrow("writing Parquet")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise InputError(f"the directory of {path} does not exist", got=str(folder), fix="create it first")
    if path.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"{path} cannot be written", got="a directory" if path.is_dir() else "no permission")


def write_vectors(path: Path, texts: Texts, vectors: Vectors) -> None:
    """Writes vectors, ``(n, dimension)``: `.npy` holds them alone, JSONL and Parquet beside their records.

    Raises:
        InputError: If the file cannot be written. Nothing is left behind then.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        _write_beside(path, lambda file: np.save(file, vectors))
    elif suffix == ".jsonl":
        _write_beside(
            path, lambda file: file.writelines(f"{line}\n".encode() for line in lines_of(texts, vectors))
        )
    else:
        _write_parquet(path, texts, vectors)


def lines_of(texts: Texts, vectors: Vectors) -> Iterator[str]:
    """Yields a line of JSON per text: its record, and the vector in digits that give the same float32."""
    for record, vector in zip(texts.records, vectors, strict=True):
        yield json.dumps(record | {EMBEDDING_FIELD: numbers(vector)}, ensure_ascii=False, default=str)


def numbers(vector: npt.NDArray[np.float32]) -> list[float]:
    """Returns the shortest numbers that JSON needs to carry float32 exactly: nine digits."""
    return [float(f"{value:.9g}") for value in vector.tolist()]


def _read_bytes(source: str) -> bytes:
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {source}", got=error.strerror or str(error)) from error


def _lines(data: bytes, name: str) -> Iterator[tuple[int, str]]:
    """Yields numbered lines of UTF-8. Only a line feed ends a line: texts may hold the other separators."""
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            raise InputError(
                f"{name} is not UTF-8",
                got=f"the byte order mark of {encoding}, at byte 0",
                fix=f"iconv -f {encoding} -t UTF-8",
            )
    offset = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    lines = data[offset:].split(b"\n")
    if not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        try:
            yield number, line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{name} is not UTF-8",
                got=f"byte 0x{line[error.start]:02x} in line {number}, at byte {offset + error.start}",
                fix="iconv -f ENCODING -t UTF-8, with the encoding that the file has",
            ) from error
        offset += len(line) + 1


def _read_jsonl(data: bytes, name: str, text_field: str, title_field: str | None) -> Texts:
    records, places = [], []
    for number, line in _lines(data, name):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}: not JSON", got=str(error)) from error
        if not isinstance(record, dict):
            raise InputError(f"{place}: not a JSON object", got=type(record).__name__)
        records.append(record)
        places.append(place)
    return _texts_of(records, places, text_field, title_field)


def _texts_of(
    records: list[dict[str, Any]], places: Sequence[str], text_field: str, title_field: str | None
) -> Texts:
    pairs = list(zip(records, places, strict=True))
    texts = [_string(record, text_field, "--field", place) for record, place in pairs]
    titles: list[str | None] | None = None
    if title_field is not None:
        # Not every document has a title.
        titles = [
            None if record.get(title_field) is None else _string(record, title_field, "--titles-field", place)
            for record, place in pairs
        ]
    return Texts(texts, titles, records)


def _string(record: dict[str, Any], name: str, option: str, place: str) -> str:
    if name not in record:
        raise InputError(
            f"{place}: no field {name!r}",
            got=", ".join(map(str, record)) or "no fields",
            fix=f"name the field with {option}",
        )
    value = record[name]
    if not isinstance(value, str):
        raise InputError(f"{place}: the field {name!r} is not a string", got=type(value).__name__)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{place}: the field {name!r} is not valid Unicode",
            got=f"half of a surrogate pair at character {error.start}",
        ) from error
    return value


def _pyarrow(purpose: str) -> Any:
    try:
        import pyarrow.parquet  # an extra, and slow to import
    except ImportError as error:
        raise MissingExtraError("pyarrow", extra="parquet", purpose=purpose) from error
    return pyarrow


def _read_parquet(source: str, text_field: str, title_field: str | None) -> Texts:
    pyarrow = _pyarrow("reading Parquet")
    try:
        with open(source, "rb") as file:
            table = pyarrow.parquet.read_table(file)
    except OSError as error:
        raise InputError(f"cannot read {source}", got=error.strerror or str(error)) from error
    except pyarrow.ArrowException as error:
        raise InputError(f"{source} is not a Parquet file that can be read", got=str(error)) from error
    records = table.to_pylist()
    places = [f"{source}, row {number}" for number in range(1, len(records) + 1)]
    for name, option in ((text_field, "--field"), (title_field, "--titles-field")):
        if name is not None and name not in table.column_names:
            raise InputError(
                f"{source}: no column {name!r}",
                got=", ".join(table.column_names),
                fix=f"name the column with {option}",
            )
    texts = _texts_of(records, places, text_field, title_field)
    texts.table = table
    return texts


def _write_parquet(path: Path, texts: Texts, vectors: Vectors) -> None:
    pyarrow = _pyarrow("writing Parquet")
    try:
        table = texts.table
        if table is None:
            names = dict.fromkeys(name for record in texts.records for name in record)
            table = pyarrow.table({n: [record.get(n) for record in texts.records] for n in names})
        if EMBEDDING_FIELD in table.column_names:
            table = table.drop_columns([EMBEDDING_FIELD])
        column = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.reshape(-1)), vectors.shape[1])
        table = (
            table.append_column(EMBEDDING_FIELD, column)
            if table.num_columns
            else pyarrow.table({EMBEDDING_FIELD: column})
        )
    except pyarrow.ArrowException as error:
        raise InputError(
            "the records do not fit into Parquet columns", got=str(error), fix="write .jsonl instead"
        ) from error
    _write_beside(path, lambda file: pyarrow.parquet.write_table(table, file))


def _write_beside(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes a file next to `path` and renames it there; leaves nothing behind when that fails."""
    target = path.resolve()  # a link stays a link, and its target is replaced
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(beside, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        if isinstance(error, OSError):
            raise InputError(
                f"cannot write {path}", got=error.strerror or str(error), fix="free space, or write elsewhere"
            ) from error
        raise
