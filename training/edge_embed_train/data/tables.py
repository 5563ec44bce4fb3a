"""Tables: a data set's rows in an Arrow file that is mapped into memory, and the rows' lengths beside it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from edge_embed.errors import InputError, TrainingError
from edge_embed_train.data.augment import source_rows
from edge_embed_train.data.sources import Row, Source

COLUMNS = ("query", "positive", "negative")
"""In the order in which the losses take them."""

ROWS = "label"
"""The column of row numbers. The trainer hands a column of this name to the loss, which finds the teacher's
vectors by it."""


@dataclass(frozen=True)
class Table:
    """One data set on disk.

    Attributes:
        name: What the recipe calls it.
        path: The Arrow file.
        columns: Those of `COLUMNS` that it has.
        rows: How many rows.
    """

    name: str
    path: Path
    columns: tuple[str, ...]
    rows: int

    def dataset(self, first_row: int = 0) -> Any:
        """Returns the rows as a mapped `datasets.Dataset`.

        Args:
            first_row: Added to the row numbers, so that several tables can be told apart.
        """
        from datasets import Dataset

        data = Dataset.from_file(str(self.path))
        if first_row:
            rows = np.arange(first_row, first_row + self.rows)
            data = data.remove_columns(ROWS).add_column(ROWS, rows)
        return data.select_columns([*self.columns, ROWS])

    def lengths(self) -> npt.NDArray[np.int32]:
        """Returns the characters of each row's longest text."""
        lengths: npt.NDArray[np.int32] = np.load(self.path.with_suffix(".lengths.npy"), mmap_mode="r")
        return lengths

    def texts(self, column: str) -> Sequence[str]:
        """Returns one column, mapped: its texts are read as they are asked for."""
        return _Texts(self.dataset().data.table.column(column))

    @property
    def fingerprint(self) -> str:
        """Names the content: the file's name carries the digest of where it came from."""
        return self.path.stem


class _Texts(Sequence[str]):
    """A column of an Arrow table as a sequence of texts."""

    def __init__(self, column: Any) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            texts: list[str] = self._column[place].to_pylist()
            return texts
        return str(self._column[place].as_py())


def build_table(name: str, source: Source, directory: Path, advance: Callable[[int], object]) -> Table:
    """Writes the rows of a source, unless an earlier run has done so.

    Args:
        name: What the recipe calls the data set.
        source: Where its rows come from.
        directory: Where tables are kept.
        advance: Called with the number of rows just written.

    Raises:
        InputError: If the source cannot be read or has no rows.
        TrainingError: If the table cannot be written.
    """
    path = directory / f"{name}-{_digest(source)}.arrow"
    return write_table(name, source_rows(source), path, advance)


def write_table(name: str, rows: Iterable[Row], path: Path, advance: Callable[[int], object]) -> Table:
    """Writes rows of one kind to a path, unless a complete file is there.

    Raises:
        InputError: If there are no rows.
        TrainingError: If the table cannot be written.
    """
    facts = facts_of(path)
    if not facts.is_file():
        scratch = path.with_suffix(".part")
        with writing(f"the table of {name}", path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                columns, lengths = _write_rows(name, rows, scratch, advance)
                np.save(path.with_suffix(".lengths.npy"), np.asarray(lengths, np.int32))
                os.replace(scratch, path)
            finally:
                scratch.unlink(missing_ok=True)  # half a table would fill the disk for nothing
            # Last: now the table is complete.
            replace_text(facts, json.dumps({"columns": columns, "rows": len(lengths)}))
    known = json.loads(facts.read_text("utf-8"))
    return Table(name, path, tuple(known["columns"]), known["rows"])


def _write_rows(
    name: str, rows: Iterable[Row], path: Path, advance: Callable[[int], object]
) -> tuple[tuple[str, ...], list[int]]:
    """Writes rows as an Arrow stream, and returns their columns and the length of each row."""
    from datasets import Features, Value
    from datasets.arrow_writer import ArrowWriter

    lengths: list[int] = []
    columns: tuple[str, ...] = ()
    writer = None
    with path.open("wb") as stream:
        for number, row in enumerate(rows):
            if writer is None:
                columns = COLUMNS[: len(row.texts)]
                features = Features({**{c: Value("string") for c in columns}, ROWS: Value("int64")})
                writer = ArrowWriter(stream=stream, features=features)
            writer.write({**dict(zip(columns, row.texts, strict=True)), ROWS: number})
            lengths.append(max(map(len, row.texts)))
            advance(1)
        if writer is None:
            raise InputError(
                f"no row of the data set {name} is left",
                got="texts that are all too short for its `sentences` or `variants`",
                expected="one row or more",
                fix="leave `sentences` and `variants` out, or name longer texts",
            )
        writer.finalize()
    return columns, lengths


def facts_of(path: Path) -> Path:
    """Returns the file that says how many rows and which columns a table has; there if it is complete."""
    return path.with_suffix(".json")


def replace_text(path: Path, text: str) -> None:
    """Writes a small file whole or not at all."""
    scratch = path.with_name(f"{path.name}.part")
    scratch.write_text(text, "utf-8")
    os.replace(scratch, path)


@contextmanager
def writing(what: str, path: Path) -> Iterator[None]:
    """Makes a TrainingError of what the system says while a file is written.

    Args:
        what: Is written.
        path: Where to.

    Raises:
        TrainingError: If the system refuses: the disk is full, or the directory cannot be written to.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        cure = "free disk space" if full else f"make {path.parent} a directory that can be written to"
        raise TrainingError(
            f"{what} cannot be written", got=f"{path}: {error}", fix=f"{cure} and run the same command again"
        ) from error


def _digest(source: Source) -> str:
    described = repr(source)
    if source.path is not None:
        place = source.path.expanduser()
        if place.is_file():
            facts = place.stat()
            described += f" {facts.st_size} {facts.st_mtime_ns}"
    return hashlib.blake2b(described.encode(), digest_size=8).hexdigest()
