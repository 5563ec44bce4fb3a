"""The kinds of output files: `.npy`, JSON lines, Parquet."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from edge_embed.bulk.output import Output, Vectors, close_at, open_at, sync
from edge_embed.bulk.parquet import import_pyarrow
from edge_embed.bulk.rows import Part
from edge_embed.errors import InputError

EMBEDDING_FIELD = "embedding"
FACTS_KEY = "edge_embed"
"""The key under which the metadata of a Parquet file holds what decided its vectors: model, prompt, input."""


class JsonLines(Output):
    """Lines of JSON: each row's record and its vector."""

    _file: IO[bytes] | None = None

    def _open(self) -> None:
        self._file = open_at(self.hidden, self.progress.size)

    def _write(self, part: Part, vectors: Vectors) -> None:
        assert self._file is not None
        self._file.writelines(line.encode() + b"\n" for line in json_lines(part, vectors))
        sync(self._file)
        self.progress.size = self._file.tell()

    def _finish(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            close_at(self._file, self.progress.size)
            self._file = None


class NumpyArray(Output):
    """A `.npy` file that grows in place. The row of a text is its row of the input; a bad row is NaN."""

    _file: IO[bytes] | None = None

    def _open(self) -> None:
        self._file = open_at(self.hidden, self.progress.size)
        if not self.progress.size:
            self._write_header(0)
            self.progress.size = self._file.tell()

    def _write(self, part: Part, vectors: Vectors) -> None:
        assert self._file is not None
        rows = np.full((part.size, self.progress.dimension), np.nan, np.float32)
        rows[[row - part.first for row in part.rows]] = vectors
        self._file.write(rows.tobytes())
        sync(self._file)
        self.progress.size = self._file.tell()

    def _write_header(self, rows: int) -> None:
        assert self._file is not None
        self._file.seek(0)
        # numpy pads the header so that the number of rows may grow without moving the data.
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, self.progress.dimension)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def _finish(self) -> None:
        assert self._file is not None
        self._write_header(self.progress.rows)
        sync(self._file)
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            close_at(self._file, self.progress.size)
            self._file = None


class ParquetFile(Output):
    """A Parquet file: the input's columns and the vectors. Until the end, each part is a file of its own."""

    @property
    def _parts(self) -> Path:
        return self.path.with_name(f".{self.path.name}.parts")

    def _open(self) -> None:
        if self.progress.size == 0 and self._parts.exists():
            shutil.rmtree(self._parts)
        self._parts.mkdir(exist_ok=True)

    def _write(self, part: Part, vectors: Vectors) -> None:
        if not len(vectors) and (part.table is None or self.progress.size):
            return  # the first part says which columns there are, also if it has no row
        pyarrow = import_pyarrow("writing Parquet")
        table = part.table
        if table is None:
            names = dict.fromkeys(name for record in part.records for name in record)
            try:
                table = pyarrow.table({n: [record.get(n) for record in part.records] for n in names})
            except pyarrow.ArrowException as error:
                raise _misfit(error) from error
        self._write_part(table, vectors)

    def _write_part(self, table: Any, vectors: Vectors) -> None:
        pyarrow = import_pyarrow("writing Parquet")
        name = self._parts / f"{self.progress.size:08}.parquet"
        try:
            if EMBEDDING_FIELD in table.column_names:
                table = table.drop_columns([EMBEDDING_FIELD])
            flat = pyarrow.array(np.ascontiguousarray(vectors).reshape(-1))
            column = pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
            if table.num_columns:
                table = table.append_column(EMBEDDING_FIELD, column)
            else:
                table = pyarrow.table({EMBEDDING_FIELD: column})
            with open(name, "wb") as file:
                pyarrow.parquet.write_table(table, file)
                sync(file)
        except pyarrow.ArrowException as error:
            raise _misfit(error) from error
        except OSError:
            name.unlink(missing_ok=True)
            raise
        self.progress.size += 1

    def _finish(self) -> None:
        pyarrow = import_pyarrow("writing Parquet")
        if not self.progress.size:
            empty = np.zeros((0, self.progress.dimension), np.float32)
            self._write_part(pyarrow.table({}), empty)
        files = [self._parts / f"{number:08}.parquet" for number in range(self.progress.size)]
        try:
            schema = pyarrow.unify_schemas(
                [pyarrow.parquet.read_schema(file) for file in files], promote_options="permissive"
            )
            facts = json.dumps(self.progress.facts, sort_keys=True)
            schema = schema.with_metadata({**(schema.metadata or {}), FACTS_KEY: facts})
            with open(self.hidden, "wb") as target:
                with pyarrow.parquet.ParquetWriter(target, schema) as writer:
                    for file in files:
                        table = pyarrow.parquet.read_table(file)
                        missing = [name for name in schema.names if name not in table.column_names]
                        for name in missing:
                            table = table.append_column(name, pyarrow.nulls(len(table)))
                        writer.write_table(table.select(schema.names).cast(schema))
                sync(target)
        except pyarrow.ArrowException as error:
            raise _misfit(error) from error
        except OSError:
            self.hidden.unlink(missing_ok=True)  # the parts hold all of it, and a full disk needs the room
            raise

    def _close(self) -> None:
        return

    def _clean(self) -> None:
        shutil.rmtree(self._parts, ignore_errors=True)

    def _discard(self) -> None:
        super()._discard()
        shutil.rmtree(self._parts, ignore_errors=True)


def parquet_facts(path: Path) -> dict[str, Any] | None:
    """Returns what a Parquet file says decided its vectors; None if it says nothing.

    Raises:
        InputError: If it is no Parquet file that can be read.
    """
    stored = (_metadata(path).metadata or {}).get(FACTS_KEY.encode(), b"null")
    try:
        facts = json.loads(stored)
    except ValueError as error:
        raise InputError(f"the key {FACTS_KEY!r} of {path} is damaged", got=str(error)) from error
    return facts if isinstance(facts, dict) else None


def parquet_rows(path: Path) -> int:
    """Returns how many rows a Parquet file has. Raises as `parquet_facts` does."""
    return int(_metadata(path).num_rows)


def _metadata(path: Path) -> Any:
    pyarrow = import_pyarrow("reading Parquet")
    try:
        return pyarrow.parquet.read_metadata(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path} is not a Parquet file that can be read", got=str(error)) from error


def _misfit(error: Exception) -> InputError:
    return InputError(
        "the records do not fit into Parquet columns", got=str(error), fix="write .jsonl instead"
    )


def open_output(path: Path, facts: Mapping[str, Any], dimension: int) -> Output:
    """Returns the output for a path, by its ending.

    Args:
        path: The file to write.
        facts: What decides the vectors; see `Progress`.
        dimension: Numbers of a vector.

    Raises:
        InputError: If the ending is unknown, or the directory is missing or not writable.
        MissingExtraError: If it is Parquet and pyarrow is not installed.
    """
    kinds: dict[str, type[Output]] = {".npy": NumpyArray, ".jsonl": JsonLines, ".parquet": ParquetFile}
    kind = path.suffix.lower()
    if kind not in kinds:
        raise InputError(
            f"cannot tell what to write to {path}",
            got=f"the ending {path.suffix!r}",
            expected=", ".join(kinds),
        )
    if kind == ".parquet":
        import_pyarrow("writing Parquet")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise InputError(f"the directory of {path} does not exist", got=str(folder), fix="create it first")
    if path.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"{path} cannot be written", got="a directory" if path.is_dir() else "no permission")
    return kinds[kind](path, facts, dimension)


def json_lines(part: Part, vectors: Vectors) -> Iterator[str]:
    """Yields a line of JSON for each text: its record, and its vector in digits that restore float32."""
    for record, vector in zip(part.as_records(), vectors, strict=True):
        line = record | {EMBEDDING_FIELD: numbers(vector)}
        yield json.dumps(line, ensure_ascii=False, default=str)


def numbers(vector: npt.NDArray[np.float32]) -> list[float]:
    """Returns the shortest numbers that JSON needs to carry float32 exactly: nine digits."""
    return [float(f"{value:.9g}") for value in vector.tolist()]
