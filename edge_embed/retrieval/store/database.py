"""Connections to an index file: one for the writer, a pool for readers, and errors in plain words."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_embed.errors import IndexFileError
from edge_embed.retrieval.store import schema
from edge_embed.retrieval.store.same_file import Identity, identity_of, require_same

_ABANDONED: list[sqlite3.Connection] = []
"""Connections of a parent process: SQLite forbids a forked child to use them, and also to close them."""


_SUFFIXES = ("", "-wal", "-shm", "-journal")
"""What SQLite may put beside a file, and the file itself."""


class Database:
    """An index file and the connections of this process to it.

    Writing is serialized by a lock among threads and by SQLite among processes. Each reading transaction
    sees the file as it was when the transaction began.

    Args:
        path: The file.
        read_only: Whether writing is refused. A file that the system does not let us write is read-only
            anyway.
        timeout: Seconds to wait for another writer.
    """

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool, timeout: float) -> None:
        self.path = Path(os.path.abspath(os.path.expanduser(os.fspath(path))))
        self.read_only = read_only
        self._timeout = timeout
        self._write_lock = threading.RLock()
        self._pool_lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._readers: list[sqlite3.Connection] = []
        self._process = os.getpid()
        self._closed = False
        self._identity: Identity | None = None

    def create(self, fill: Callable[[sqlite3.Connection], None]) -> None:
        """Makes the file, under its name only when it is complete. Does nothing if it already exists.

        Args:
            fill: Makes the tables, in a transaction of the connection that it gets.

        Raises:
            IndexFileError: If the file cannot be made.
        """
        if identity_of(self.path) is not None:
            return
        if self.read_only:
            raise IndexFileError(f"there is no index {self.path}", fix="check the path")
        if not self.path.parent.is_dir():
            raise IndexFileError(
                f"cannot make the index {self.path}",
                got=f"no directory {self.path.parent}",
                fix="make the directory first",
            )
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
        try:
            with self.translated():
                connection = self._connect(temporary, "mode=rwc")
                try:
                    connection.execute(f"PRAGMA page_size = {schema.PAGE_BYTES}")
                    self._require_log(connection)
                    with self._transaction(connection):
                        fill(connection)
                finally:
                    connection.close()
            _publish(temporary, self.path)
        except OSError as error:
            raise IndexFileError(
                f"cannot make the index {self.path}", got=str(error), fix="choose another path"
            ) from error
        finally:
            for suffix in _SUFFIXES:
                Path(f"{temporary}{suffix}").unlink(missing_ok=True)

    def open(self) -> None:
        """Opens the file.

        Raises:
            IndexFileError: If there is none, or it is not an index of ours, of a newer schema, damaged, or
                cannot be opened.
        """
        self._identity = identity_of(self.path)
        if self._identity is None:
            raise IndexFileError(f"there is no index {self.path}", fix="check the path")
        if not self.path.is_file():
            raise IndexFileError(f"{self.path} is not a file", expected="an index file")
        _require_whole_pages(self.path)
        if not os.access(self.path, os.W_OK):
            self.read_only = True
        with self.translated():
            if self.read_only:
                with self.reading() as connection:
                    if _version(connection, self.path) < schema.SCHEMA_VERSION:
                        raise IndexFileError(
                            f"{self.path} has an older schema and cannot be upgraded",
                            got="a file that is open for reading only",
                            fix="open it once where it can be written",
                        )
                return
            connection = self._connect(self.path, "mode=rw")
            try:
                version = _version(connection, self.path)
                self._require_log(connection)
                if version < schema.SCHEMA_VERSION:
                    with self._transaction(connection):
                        # Another process may have been faster.
                        schema.upgrade(connection, _version(connection, self.path))
            except BaseException:
                connection.close()
                raise
            self._writer = connection

    def _require_log(self, connection: sqlite3.Connection) -> None:
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise IndexFileError(
                f"the file system of {self.path} does not support SQLite's write-ahead log",
                got=f"journal mode {mode}",
                expected="a local disk, or a share with locks and shared memory",
                fix="keep the index on a local disk; Index.backup copies it to a share",
            )

    def _connect_reader(self) -> sqlite3.Connection:
        require_same(self.path, self._identity)
        if not self.read_only:
            return self._connect(self.path, "mode=rw")
        query = "mode=ro"
        if not Path(f"{self.path}-wal").exists() and not os.access(self.path.parent, os.W_OK):
            # SQLite cannot make the log's shared memory beside the file here, and nobody else can write.
            query += "&immutable=1"
        return self._connect(self.path, query)

    def _connect(self, path: Path, query: str) -> sqlite3.Connection:
        uri = f"file:{urllib.parse.quote(os.fsencode(path))}?{query}"  # names need not be UTF-8
        connection = sqlite3.connect(
            uri, uri=True, timeout=self._timeout, isolation_level=None, check_same_thread=False
        )
        # FULL: a commit is on the disk when `add` returns, also if the power fails.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        return connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lends a connection with a reading transaction, which ends with the block."""
        connection = self._take()
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            self._give_back(connection)

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lends the writer's connection with a transaction: committed at the end, undone after an error.

        Raises:
            IndexFileError: If the file is read-only, or another process writes for longer than the timeout.
        """
        with self._write_lock:
            self._require_usable()
            if self._writer is None:
                raise IndexFileError(
                    f"the index {self.path} is open for reading only",
                    fix="open it with read_only=False, or make the file and its directory writable",
                )
            require_same(self.path, self._identity)
            with self._transaction(self._writer):
                yield self._writer

    @contextlib.contextmanager
    def outside_transactions(self) -> Iterator[sqlite3.Connection]:
        """Lends the writer's connection without a transaction, for VACUUM and checkpoints."""
        with self._write_lock:
            self._require_usable()
            if self._writer is None:
                raise IndexFileError(f"the index {self.path} is open for reading only")
            require_same(self.path, self._identity)
            yield self._writer

    @staticmethod
    @contextlib.contextmanager
    def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _take(self) -> sqlite3.Connection:
        with self._pool_lock:
            self._require_usable()
            if self._readers:
                return self._readers.pop()
        return self._connect_reader()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if self._process != os.getpid():
            _ABANDONED.append(connection)
            return
        healthy = True
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            healthy = False
        with self._pool_lock:
            if healthy and not self._closed:
                self._readers.append(connection)
                return
        connection.close()

    def require_open(self) -> None:
        """Refuses to go on after `close`.

        Raises:
            IndexFileError: If the index was closed.
        """
        if self._closed:
            raise IndexFileError(f"the index {self.path} is closed", fix="open it again with Index.open")

    def _require_usable(self) -> None:
        self.require_open()
        if self._process != os.getpid():
            self._after_fork()

    def _after_fork(self) -> None:
        _ABANDONED.extend(self._readers)
        if self._writer is not None:
            _ABANDONED.append(self._writer)
        self._readers, self._process = [], os.getpid()
        self._writer = None if self.read_only else self._connect(self.path, "mode=rw")

    def close(self) -> None:
        """Closes all connections; the last process to do so leaves one file, without a log beside it."""
        with self._write_lock, self._pool_lock:
            if self._closed:
                return
            self._closed = True
            if self._process != os.getpid():
                _ABANDONED.extend([*self._readers, *([self._writer] if self._writer else [])])
                return
            readers, self._readers = self._readers, []
            for connection in readers:
                connection.close()
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def forget_locks(self) -> None:
        """Replaces the locks, which a forked child may have inherited held."""
        self._write_lock, self._pool_lock = threading.RLock(), threading.Lock()

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Turns SQLite's errors into `IndexFileError`."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def _explain(self, error: sqlite3.Error) -> IndexFileError:
        text = str(error)
        for part, what, fix in _EXPLANATIONS:
            if part in text:
                return IndexFileError(f"{what}: {self.path}", got=text, fix=fix)
        return IndexFileError(
            f"SQLite failed on the index {self.path}", got=f"{type(error).__name__}: {text}"
        )


def _require_whole_pages(path: Path) -> None:
    """Refuses a file that ends within a page, which SQLite itself would read as if zeros followed."""
    log = Path(f"{path}-wal")
    if log.exists() and log.stat().st_size:
        return  # an interrupted write, which the log repairs
    with open(path, "rb") as handle:
        header = handle.read(18)
    if header[:16] != b"SQLite format 3\0":
        return  # another kind of file, which SQLite names
    if excess := path.stat().st_size % (int.from_bytes(header[16:18], "big") or 1):
        raise IndexFileError(
            f"the index {path} is cut",
            got=f"{excess} bytes behind the last whole page",
            expected="whole pages",
            fix="restore it from a backup, or remove it and index the documents again",
        )


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Returns the schema version; refuses a database of another program and a newer schema."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if path.stat().st_size == 0:
        raise IndexFileError(
            f"{path} is empty",
            got="0 bytes",
            expected="an index",
            fix="restore it from a backup, or remove it to make a new index",
        )
    if application != schema.APPLICATION_ID:
        raise IndexFileError(
            f"{path} is a database of another program",
            got=f"application id {application:#010x}",
            expected=f"{schema.APPLICATION_ID:#010x}",
            fix="choose another path for the index",
        )
    if not 1 <= version <= schema.SCHEMA_VERSION:
        raise IndexFileError(
            f"{path} was made by a newer edge_embed",
            got=f"schema version {version}",
            expected=f"at most {schema.SCHEMA_VERSION}",
            fix="pip install --upgrade edge-embed",
        )
    return int(version)


def _publish(temporary: Path, path: Path) -> None:
    """Gives a finished file its name, unless another process has made one of that name meanwhile."""
    with open(temporary, "rb") as handle:
        os.fsync(handle.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        if not path.exists():
            os.rename(temporary, path)


_DAMAGED = (
    "the index is damaged",
    "restore it from a backup, or remove it and index the documents again",
)
_EXPLANATIONS: tuple[tuple[str, str, str], ...] = (
    ("file is not a database", "this is not an index", "check the path"),
    ("malformed", *_DAMAGED),
    ("no such table", *_DAMAGED),
    ("no such column", *_DAMAGED),
    ("vtable constructor failed", *_DAMAGED),
    ("disk is full", "no space is left for the index; nothing of this step was written", "free some space"),
    ("readonly", "the index cannot be written", "make the file and its directory writable"),
    (
        "is locked",
        "another process writes the index, and did so for longer than the timeout",
        "try again later, or open it with a longer timeout",
    ),
    (
        "locking protocol",
        "the file system of the index does not support locks",
        "keep the index on a local disk; Index.backup copies it to a share",
    ),
    (
        "unable to open",
        "the index, or the log beside it, cannot be opened",
        "check that the path exists and that the directory can be read and written",
    ),
    (
        "disk I/O error",
        "the disk or the share of the index failed; what was committed before is kept",
        "check the disk; on a network share without locks, keep the index on a local disk instead",
    ),
)
