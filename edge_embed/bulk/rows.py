"""Texts from files, in parts that fit in memory: plain text, JSON lines, and Parquet.

Text and JSON lines may be compressed by gzip or xz. An error names the file and the line or row.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import lzma
import queue
import sys
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

from edge_embed.bulk.parquet import import_pyarrow, opened, rows_within
from edge_embed.errors import InputError

STDIN = "-"
TEXT_FIELD = "text"
PART = 1024
"""Rows of a part. Larger ones gain no speed; an interrupted run loses at most one."""

PART_BYTES = 16 << 20
"""Bytes of a part's rows. Where rows are long, a part has fewer of them."""

MOST_LINE = 64 << 20
"""Bytes of a line. A longer one is no text, but a file of another kind, and would fill the memory."""

Line = tuple[int, bytes]

COMPRESSIONS = (".gz", ".xz")
KINDS = (".txt", ".jsonl", ".parquet")
_OPENERS: dict[str, Any] = {"": open, ".gz": gzip.open, ".xz": lzma.open}
_BYTE_ORDER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be embedded: its number from 0, its place in words, and the reason."""

    row: int
    place: str
    reason: str


@dataclass
class Part:
    """Some consecutive rows of an input.

    Attributes:
        first: The number of the first row, from 0.
        rows: Numbers of the rows that hold a text. All of them, unless bad rows are set aside.
        texts: The texts of these rows.
        titles: Their titles, where a field was named for titles.
        records: What each text was part of; an output keeps it. Empty where there is a table.
        table: The same as a pyarrow table, where the rows come from Parquet: it knows the types.
        bad: The rows that hold no text.
        size: How many rows the part has, bad ones included.
    """

    first: int
    rows: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    titles: list[str | None] | None = None
    records: list[dict[str, Any]] = field(default_factory=list)
    table: Any = None
    bad: list[BadRow] = field(default_factory=list)
    size: int = 0

    def as_records(self) -> list[dict[str, Any]]:
        """Returns what each text was part of, wherever it came from."""
        if self.table is None:
            return self.records
        rows: list[dict[str, Any]] = self.table.to_pylist()
        return rows


@dataclass(frozen=True)
class Fields:
    """Which fields of a record hold the text and the title; None where nothing was named."""

    text: str | None = None
    title: str | None = None

    @property
    def named(self) -> bool:
        """Whether any field was named."""
        return self.text is not None or self.title is not None

    @property
    def columns(self) -> list[tuple[str, str]]:
        """The names of the fields, each with the option that names it."""
        titles = [] if self.title is None else [(self.title, "--titles-field")]
        return [(self.text or TEXT_FIELD, "--field"), *titles]


ALL_DEFAULT = Fields()


def kind_of(source: str, fields: Fields) -> tuple[str, str]:
    """Returns what a file holds and how it is compressed, as file endings.

    Raises:
        InputError: If the ending says neither.
    """
    if source == STDIN:
        # Lines of a pipe are texts, unless a field is named.
        return (".jsonl" if fields.named else ".txt"), ""
    suffixes = [suffix.lower() for suffix in Path(source).suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    kind = suffixes[-1] if suffixes else ""
    if kind not in KINDS or (kind == ".parquet" and compression):
        raise InputError(
            f"cannot tell what {source} holds",
            got=f"the ending {kind + compression!r}",
            expected=", ".join(KINDS) + "; .txt and .jsonl also with .gz or .xz",
        )
    if kind == ".txt" and fields.named:
        raise InputError(
            f"{source} is plain text and has no fields", fix="leave --field and --titles-field out"
        )
    return kind, compression


def read_parts(
    source: str,
    fields: Fields = ALL_DEFAULT,
    *,
    size: int = PART,
    skip: int = 0,
    keep_bad: bool = False,
    eager: bool = False,
) -> Iterator[Part]:
    """Yields the rows of a file, or of stdin for `-`, in parts.

    Args:
        source: The file.
        fields: The fields that hold texts and titles.
        size: Rows of a part.
        skip: How many rows to leave out at the beginning.
        keep_bad: Whether rows without a usable text are listed in `Part.bad`; else the first is an error.
        eager: Whether a part may be smaller so that no row waits for others: for pipes.

    Raises:
        InputError: If the file cannot be read, or a row cannot be used.
        MissingExtraError: If it is Parquet and pyarrow is not installed.
    """
    kind, compression = kind_of(source, fields)
    if kind == ".parquet":
        yield from _read_parquet(source, fields, size, skip, keep_bad)
        return
    name = "stdin" if source == STDIN else source
    with _opened(source, compression) as stream:
        lines = _numbered_lines(stream, name)
        if kind == ".jsonl":
            lines = ((number, line) for number, line in lines if line.strip())
        for _ in islice(lines, skip):
            continue
        row = skip
        for chunk in _eager_chunks(lines, size) if eager else _chunks(lines, size):
            part = Part(row, titles=None if fields.title is None else [], size=len(chunk))
            for offset, (number, line) in enumerate(chunk):
                place = f"{name}, line {number}"
                try:
                    text = _decode(line, name, number)
                    record = {TEXT_FIELD: text} if kind == ".txt" else _parse(text, place)
                    _append(part, row + offset, record, fields, place)
                except InputError as error:
                    if not keep_bad:
                        raise
                    part.bad.append(BadRow(row + offset, place, _reason(error)))
            yield part
            row += len(chunk)


def _chunks(lines: Iterator[Line], size: int) -> Iterator[list[Line]]:
    chunk: list[Line] = []
    length = 0
    for line in lines:
        chunk.append(line)
        length += len(line[1])
        if len(chunk) == size or length >= PART_BYTES:
            yield chunk
            chunk, length = [], 0
    if chunk:
        yield chunk


def _eager_chunks(lines: Iterator[Line], size: int) -> Iterator[list[Line]]:
    """Yields the lines that have arrived, at least one and at most `size`. A thread reads on meanwhile."""
    arrived: queue.Queue[Line | BaseException | None] = queue.Queue(2 * size)

    def read() -> None:
        try:
            for line in lines:
                arrived.put(line)
            arrived.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            arrived.put(error)

    threading.Thread(target=read, daemon=True).start()
    end: BaseException | None = None
    over = False
    while not over:
        chunk: list[Line] = []
        while not over and len(chunk) < size:
            try:
                item = arrived.get(block=not chunk)
            except queue.Empty:
                break
            if isinstance(item, tuple):
                chunk.append(item)
            else:
                over, end = True, item
        if chunk:
            yield chunk
    if end is not None:
        raise end


def _append(part: Part, row: int, record: dict[str, Any], fields: Fields, place: str) -> None:
    text = _string(record, fields.text or TEXT_FIELD, "--field", place)
    if part.titles is not None and fields.title is not None:
        # Not every document has a title.
        missing = record.get(fields.title) is None
        part.titles.append(None if missing else _string(record, fields.title, "--titles-field", place))
    part.rows.append(row)
    part.texts.append(text)
    part.records.append(record)


@contextlib.contextmanager
def _opened(source: str, compression: str) -> Iterator[IO[bytes]]:
    if source == STDIN:
        yield sys.stdin.buffer
        return
    try:
        stream: Any = _OPENERS[compression](source, "rb")
        with stream:
            yield stream
    except OSError as error:
        raise InputError(f"cannot read {source}", got=error.strerror or str(error)) from error
    except (EOFError, lzma.LZMAError, zlib.error) as error:
        raise InputError(f"{source} is damaged", got=str(error), fix="copy or download it again") from error


def _numbered_lines(stream: IO[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """Yields lines with their numbers. Only a line feed ends a line: texts may hold the other separators."""
    for number, line in enumerate(iter(lambda: stream.readline(MOST_LINE + 1), b""), 1):
        if len(line) > MOST_LINE:
            raise InputError(
                f"{name}, line {number}: too long",
                got=f"more than {MOST_LINE >> 20} MiB without a line feed",
                expected="one text or one JSON object in each line",
            )
        if number == 1:
            for mark, encoding in _BYTE_ORDER_MARKS.items():
                if line.startswith(mark):
                    raise InputError(
                        f"{name} is not UTF-8",
                        got=f"the byte order mark of {encoding}, at byte 0",
                        fix=f"iconv -f {encoding} -t UTF-8",
                    )
            yield number, line.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").removesuffix(b"\r")
        else:
            yield number, line.removesuffix(b"\n").removesuffix(b"\r")


def _decode(line: bytes, name: str, number: int) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} is not UTF-8",
            got=f"byte 0x{line[error.start]:02x} in line {number}, at byte {error.start} of the line",
            fix="iconv -f ENCODING -t UTF-8, with the encoding that the file has",
        ) from error


def _parse(line: str, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not JSON", got=str(error)) from error
    if not isinstance(record, dict):
        raise InputError(f"{place}: not a JSON object", got=type(record).__name__)
    return record


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


def _reason(error: InputError) -> str:
    return f"{error.what}: {error.got}" if error.got else error.what


def _read_parquet(source: str, fields: Fields, size: int, skip: int, keep_bad: bool) -> Iterator[Part]:
    with opened(source, fields) as file:
        pyarrow, row = import_pyarrow("reading Parquet"), 0
        for batch in file.iter_batches(rows_within(file, size, PART_BYTES)):
            table = pyarrow.Table.from_batches([batch])
            if row + len(table) > skip:
                begin = max(skip - row, 0)
                yield _table_part(table.slice(begin), row + begin, source, fields, keep_bad)
            row += len(table)
        if row == 0:  # its columns are a part of the output all the same
            yield Part(0, titles=None if fields.title is None else [], table=file.schema_arrow.empty_table())


def _table_part(table: Any, first: int, source: str, fields: Fields, keep_bad: bool) -> Part:
    part = Part(first, titles=None if fields.title is None else [], size=len(table))
    columns = table.select(list(dict.fromkeys(name for name, _ in fields.columns)))
    for offset, record in enumerate(columns.to_pylist()):
        place = f"{source}, row {first + offset + 1}"
        try:
            _append(part, first + offset, record, fields, place)
        except InputError as error:
            if not keep_bad:
                raise
            part.bad.append(BadRow(first + offset, place, _reason(error)))
    part.records = []  # the table has all of them
    part.table = table.take([row - first for row in part.rows]) if part.bad else table
    return part
