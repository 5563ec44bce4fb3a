"""Care of the file: a copy while it is open, a check of every checksum, space given back."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from edge_embed.errors import IndexFileError
from edge_embed.retrieval.store.database import Database
from edge_embed.retrieval.store.vectors import require_intact

_PAGES_A_STEP = 1024


def backup(database: Database, target: str | os.PathLike[str]) -> None:
    """Copies the file as it is now. The copy appears under its name when it is complete.

    Raises:
        IndexFileError: If it cannot be written.
    """
    path = Path(os.path.abspath(os.path.expanduser(os.fspath(target))))
    if path == database.path:
        raise IndexFileError("a backup cannot be written over the index itself", fix="choose another path")
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        with database.reading() as source:
            copy = sqlite3.connect(temporary, isolation_level=None)
            try:
                source.backup(copy, pages=_PAGES_A_STEP)
                # One file that any program can open, also where it cannot be written.
                copy.execute("PRAGMA journal_mode = DELETE")
            finally:
                copy.close()
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except (OSError, sqlite3.Error) as error:
        raise IndexFileError(
            f"the backup {path} cannot be written; nothing is left of it",
            got=str(error),
            fix="check that the directory exists, can be written and has room",
        ) from error
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{temporary}{suffix}").unlink(missing_ok=True)


def check(database: Database) -> None:
    """Reads everything: SQLite's own structure, the full-text table, the checksums of all vectors.

    Raises:
        IndexFileError: If something is damaged.
    """
    with database.reading() as connection:
        found = connection.execute("PRAGMA integrity_check(5)").fetchall()
        if found != [("ok",)]:
            raise IndexFileError(
                f"the index {database.path} is damaged",
                got="; ".join(str(row[0]) for row in found),
                fix="restore it from a backup, or index the documents again",
            )
        for table in ("signs", "codes", "floats"):
            for block, expected, data in connection.execute(f"SELECT block, checksum, data FROM {table}"):
                require_intact(table, block, data, expected)


def vacuum(database: Database) -> None:
    """Gives the space of deleted rows back to the file system."""
    with database.outside_transactions() as connection:
        connection.execute("INSERT INTO lexical (lexical) VALUES ('optimize')")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
