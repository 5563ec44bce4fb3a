"""Parquet files as an input: their columns, their length, and their rows in batches that fit in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edge_embed.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from edge_embed.bulk.rows import Fields

READ_AHEAD = 1 << 20
"""Bytes of a column that are read at a time. Without it the column of a whole row group is."""


def import_pyarrow(purpose: str) -> Any:
    """Returns pyarrow with its Parquet module.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import pyarrow.parquet  # an extra, and slow to import
    except ImportError as error:
        raise MissingExtraError("pyarrow", extra="parquet", purpose=purpose) from error
    return pyarrow


@contextmanager
def opened(source: str, fields: Fields) -> Iterator[Any]:
    """Opens a file and looks for the columns of the texts and titles. Errors within the block count as its.

    Raises:
        InputError: If the file cannot be read, or has no such column or two of that name.
        MissingExtraError: If pyarrow is not installed.
    """
    pyarrow = import_pyarrow("reading Parquet")
    try:
        with pyarrow.parquet.ParquetFile(source, buffer_size=READ_AHEAD, pre_buffer=False) as file:
            names = file.schema_arrow.names
            for name, option in fields.columns:
                if names.count(name) != 1:
                    many = "two columns" if name in names else "no column"
                    raise InputError(
                        f"{source}: {many} {name!r}",
                        got=", ".join(names) or "no columns",
                        fix=f"name the column with {option}",
                    )
            yield file
    except OSError as error:
        raise InputError(f"cannot read {source}", got=error.strerror or str(error)) from error
    except pyarrow.ArrowException as error:
        raise InputError(f"{source} is not a Parquet file that can be read", got=str(error)) from error


def count_rows(source: str, fields: Fields) -> int:
    """Returns how many rows a file has. Raises as `opened` does."""
    with opened(source, fields) as file:
        return int(file.metadata.num_rows)


def rows_within(file: Any, rows: int, most_bytes: int) -> int:
    """Returns how many rows, at most `rows`, take up no more bytes than allowed, in the widest row group."""
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    widest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=0.0)
    return max(1, min(rows, int(most_bytes / widest) if widest else rows))
