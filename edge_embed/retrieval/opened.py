"""An open index file: its life from opening to closing, and reading documents from it."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from edge_embed.retrieval.documents import check_id
from edge_embed.retrieval.opening import recorded_model, recorded_path
from edge_embed.retrieval.search.resident import Resident
from edge_embed.retrieval.search.searcher import Searcher
from edge_embed.retrieval.store.database import Database
from edge_embed.retrieval.store.maintenance import backup, check
from edge_embed.retrieval.store.metadata import Where
from edge_embed.retrieval.store.metadata import condition as where_condition
from edge_embed.retrieval.store.settings import Encoder, Settings, State
from edge_embed.retrieval.types import Document, Stats

Self = TypeVar("Self", bound="OpenIndex")

_indexes: weakref.WeakSet[OpenIndex] = weakref.WeakSet()


class OpenIndex:
    """What `Index` is made of besides adding and searching.

    Args:
        database: The open file.
        settings: Its settings.
        model: Its model; None for the recorded one, loaded when it is first needed.
        full: Whether the int8 vectors are held in memory.
    """

    def __init__(self, database: Database, settings: Settings, model: Encoder | None, *, full: bool) -> None:
        self._database = database
        self._settings = settings
        self._model = model
        self._own_model = False
        self._full = full
        self._lock = threading.RLock()
        self._resident = Resident(settings, full=full)
        self._searcher = Searcher()
        self._epoch: int | None = None
        _indexes.add(self)

    @property
    def model_path(self) -> Path:
        """The model file that the index was last opened with.

        Raises:
            IndexModelError: If it is gone.
        """
        return recorded_path(self._settings, self._database.path)

    def get(self, document_id: str) -> Document | None:
        """Returns a document, or None if there is none of that id."""
        name = check_id(document_id, "the id")
        with self._database.translated(), self._database.reading() as connection:
            row = connection.execute(f"SELECT {_DOCUMENT} FROM documents WHERE name = ?", [name]).fetchone()
        return None if row is None else _document(row)

    def __contains__(self, document_id: object) -> bool:
        if not isinstance(document_id, str):
            return False
        with self._database.translated(), self._database.reading() as connection:
            found = connection.execute("SELECT 1 FROM documents WHERE name = ?", [document_id]).fetchone()
        return found is not None

    def __iter__(self) -> Iterator[Document]:
        """Yields all documents, the oldest first, a hundred from one snapshot at a time."""
        last = 0
        while True:
            with self._database.translated(), self._database.reading() as connection:
                rows = connection.execute(
                    f"SELECT id, {_DOCUMENT} FROM documents WHERE id > ? ORDER BY id LIMIT 100", [last]
                ).fetchall()
            if not rows:
                return
            yield from (_document(row[1:]) for row in rows)
            last = rows[-1][0]

    def ids(self, where: Where | None = None) -> list[str]:
        """Returns the ids of all documents, or of those that a filter lets through."""
        clause, values = where_condition(where)
        with self._database.translated(), self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT name FROM documents WHERE {clause or '1'} ORDER BY documents.id", values
            )
            return [row[0] for row in rows]

    def __len__(self) -> int:
        """Returns the number of documents."""
        with self._database.translated(), self._database.reading() as connection:
            return State.load(connection).documents

    def stats(self) -> Stats:
        """Returns what the index holds, how large it is and what it was made with."""
        with self._database.translated(), self._database.reading() as connection:
            state, settings, resident = self._current(connection)
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        parts = [Path(f"{self._database.path}{suffix}") for suffix in ("", "-wal")]
        return Stats(
            documents=state.documents,
            chunks=state.chunks,
            deleted_chunks=state.next_slot - state.chunks,
            dimension=settings.dimension,
            vectors=settings.vectors,
            lexical=settings.lexical,
            chunk_tokens=settings.chunk_tokens,
            overlap=settings.overlap,
            model=settings.model,
            model_path=settings.model_path or None,
            schema_version=version,
            file_bytes=sum(part.stat().st_size for part in parts if part.exists()),
            resident_bytes=resident.nbytes,
        )

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Copies the index to another file, while others read and write it.

        Raises:
            IndexFileError: If the copy cannot be written.
        """
        with self._database.translated():
            backup(self._database, path)

    def check(self) -> None:
        """Reads the whole file and compares every checksum.

        Raises:
            IndexFileError: If something is damaged.
        """
        with self._database.translated():
            check(self._database)

    def close(self) -> None:
        """Closes the file. Using the index afterwards is an error; closing it again is not."""
        self._database.close()
        with self._lock:
            if self._own_model and isinstance(self._model, contextlib.AbstractContextManager):
                self._model.__exit__(None, None, None)
            self._model = None
            self._resident = Resident(self._settings, full=self._full)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        settings = self._settings
        return (
            f"{type(self).__name__}({os.fspath(self._database.path)!r}, model={settings.model!r}, "
            f"dimension={settings.dimension})"
        )

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    @property
    def model(self) -> Encoder:
        """The model that embeds documents and queries, loaded if it is not yet.

        Raises:
            IndexModelError: If its file is gone or is not the index's model any more.
        """
        return self._require_model()

    def _current(self, connection: sqlite3.Connection) -> tuple[State, Settings, Resident]:
        """Returns the counters, the settings and the vectors that belong to a connection's transaction.

        They are returned together because another thread may take over newer settings meanwhile.

        Raises:
            IndexModelError: If the settings name another model.
        """
        state = State.load(connection)
        with self._lock:
            if state.epoch != self._epoch:
                settings = Settings.load(connection)
                if self._model is not None:
                    settings.require_model(self._model)
                if settings != self._settings:
                    self._take(settings)
                self._epoch = state.epoch
            return state, self._settings, self._resident

    def _take(self, settings: Settings) -> None:
        self._settings = settings
        self._resident = Resident(settings, full=self._full)

    def _require_model(self) -> Encoder:
        with self._lock:
            if self._model is None:
                self._database.require_open()
                self._model = recorded_model(self._settings, self._database.path)
                self._own_model = True
            return self._model


_DOCUMENT = "name, text, title, metadata, kind"


def _document(row: Sequence[Any]) -> Document:
    name, text, title, metadata, kind = row
    return Document(name, text, title, json.loads(metadata), kind)


def _after_fork_in_child() -> None:
    for index in list(_indexes):
        index._lock = threading.RLock()
        index._database.forget_locks()
        index._resident.forget_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
