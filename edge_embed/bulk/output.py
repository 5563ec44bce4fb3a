"""Vectors to files, part by part: what was written survives an interruption and can be continued.

Parts go into a hidden file beside the output. After each part a record says how far that file is valid. The
output itself appears by a rename when everything is there. `formats` has the kinds of files.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from edge_embed.bulk.rows import BadRow, Part
from edge_embed.errors import InputError

LOCK_SECONDS = 0.1
"""How often a lock is tried again."""

Vectors = npt.NDArray[np.float32]


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        facts: What decides the vectors: model, prompt, input. A run is continued only with the same facts.
        rows: Rows of the input that are done, bad ones included.
        embedded: Vectors that are written.
        bad: Rows that could not be embedded.
        dimension: Numbers of a vector.
        size: Valid bytes of the hidden output file, or its number of files for Parquet.
        bad_size: Valid bytes of the file of bad rows.
        complete: Whether the hidden file is the whole output and has only to be renamed.
    """

    facts: dict[str, Any]
    rows: int = 0
    embedded: int = 0
    bad: int = 0
    dimension: int = 0
    size: int = 0
    bad_size: int = 0
    complete: bool = False


class Output(ABC):
    """An output file that is being written.

    Args:
        path: Where the finished file will be.
        facts: See `Progress`.
        dimension: Numbers of a vector.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any], dimension: int) -> None:
        self.path = path.resolve()  # a link stays a link, and its target is replaced
        self.hidden = self.path.with_name(f".{self.path.name}.partial")
        self.bad_path = self.path.with_name(f"{self.path.name}.errors.jsonl")
        self.progress = Progress(dict(facts), dimension=dimension)
        self._record = self.path.with_name(f".{self.path.name}.progress.json")
        self._bad_file: IO[bytes] | None = None
        self._lock: int | None = None
        self._begun = False

    def begin(self, *, resume: bool, restart: bool, patience: float = 0.0) -> None:
        """Starts, or continues what an interrupted run has left.

        Args:
            resume: Whether to continue.
            restart: Whether to drop what an interrupted run has left.
            patience: Seconds to wait for another process that is writing: it may be about to end.

        Raises:
            InputError: If an unfinished run is there and neither was chosen, if it had other input or another
                model, or if another process is writing.
        """
        with self._writing():
            self._take_lock(patience)
            left = None if restart else self._read_record()
            if left is not None and left.rows and not resume:
                raise InputError(
                    f"an unfinished run for {self.path.name} is here",
                    got=f"{left.rows} rows done",
                    expected="--resume to go on, or --restart to begin again",
                )
            if left is not None and resume:
                self._check_same(left)
                self.progress = left
            self._begun = True
            if not self.progress.complete:
                self._open()
                self._save()

    def left(self) -> Progress | None:
        """Returns how far an unfinished run has come, of this process or another; None if there is none.

        Raises:
            InputError: If it had other input or another model.
        """
        left = self._read_record()
        if left is not None:
            self._check_same(left)
        return left

    def write(self, part: Part, vectors: Vectors) -> None:
        """Writes the vectors of a part, ``(len(part.texts), dimension)``, so that they survive a crash."""
        with self._writing():
            self._write(part, vectors)
            if part.bad:
                self._write_bad(part.bad)
            self.progress.rows += part.size
            self.progress.embedded += len(vectors)
            self.progress.bad += len(part.bad)
            self._save()

    def finish(self) -> None:
        """Puts the finished file in its place. A run that was stopped in here is finished by the next one."""
        with self._writing():
            if not self.progress.complete:
                self._finish()
                self.progress.complete = True
                self._save()
            if self.hidden.exists() or not self.path.exists():  # else an earlier run was stopped after this
                os.replace(self.hidden, self.path)
            self._fsync_directory()
            self._clean()
            if not self.progress.bad:  # an earlier output may have left some
                self.bad_path.unlink(missing_ok=True)
            self._record.unlink()
            self._fsync_directory()
        self.close()

    def close(self) -> None:
        """Closes everything and keeps what was written. A run that has done no row leaves nothing behind."""
        self._close()
        if self._begun and not self.progress.rows:
            self._discard()
            self._record.unlink(missing_ok=True)
        self._begun = False
        if self._bad_file is not None:
            close_at(self._bad_file, self.progress.bad_size)
            self._bad_file = None
        if self._lock is not None:
            if not self._record.exists():  # finished, or nothing begun: the lock file has no more use
                with contextlib.suppress(OSError):
                    self._lock_path.unlink()  # before others can have the lock; see `_take_lock`
            os.close(self._lock)
            self._lock = None

    @abstractmethod
    def _open(self) -> None:
        """Opens the hidden file and cuts it to its valid part."""

    @abstractmethod
    def _write(self, part: Part, vectors: Vectors) -> None:
        """Writes a part and sets `progress.size`."""

    @abstractmethod
    def _finish(self) -> None:
        """Completes the hidden file."""

    @abstractmethod
    def _close(self) -> None: ...

    def _clean(self) -> None:
        """Removes what the finished file no longer needs."""
        return

    def _discard(self) -> None:
        """Removes what `_open` made."""
        self.hidden.unlink(missing_ok=True)

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(f".{self.path.name}.lock")

    def _take_lock(self, patience: float) -> None:
        deadline = time.monotonic() + patience
        while True:
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(lock)
                if time.monotonic() >= deadline:
                    name = self.path.name
                    raise InputError(f"another process is writing {name}", fix="wait for it") from error
                time.sleep(LOCK_SECONDS)
            else:
                if self._is_lock(lock):
                    self._lock = lock
                    return
                os.close(lock)  # the one who had it has removed the file, and others would lock a new one

    def _is_lock(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._lock_path.stat())
        except FileNotFoundError:
            return False

    def _read_record(self) -> Progress | None:
        try:
            return Progress(**json.loads(self._record.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{self._record.name} is damaged", got=str(error), fix="begin again with --restart"
            ) from error

    def _check_same(self, left: Progress) -> None:
        now = self.progress.facts
        for name in {**left.facts, **now}:
            if left.facts.get(name) != now.get(name):
                raise InputError(
                    f"the unfinished run for {self.path.name} cannot be continued: its {name} was another",
                    got=str(now.get(name)),
                    expected=str(left.facts.get(name)),
                    fix="run it with the same model, options and input, or begin again with --restart",
                )

    def _write_bad(self, bad: list[BadRow]) -> None:
        if self._bad_file is None:
            self._bad_file = open_at(self.bad_path, self.progress.bad_size)
        for row in bad:
            self._bad_file.write(json.dumps(asdict(row), ensure_ascii=False).encode() + b"\n")
        sync(self._bad_file)
        self.progress.bad_size = self._bad_file.tell()

    def _save(self) -> None:
        temporary = self._record.with_suffix(".tmp")
        with open(temporary, "wb") as file:
            file.write(json.dumps(asdict(self.progress)).encode())
            sync(file)
        os.replace(temporary, self._record)

    def _fsync_directory(self) -> None:
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"cannot write {self.path}",
                got=error.strerror or str(error),
                fix="free space or choose another place; --resume goes on with what was written",
            ) from error


def open_at(path: Path, size: int) -> IO[bytes]:
    """Opens a file for writing after its first `size` bytes, and drops the rest."""
    file = open(path, "r+b" if size else "w+b")  # noqa: SIM115 - the caller closes it
    try:
        file.truncate(size)
        file.seek(size)
    except BaseException:
        file.close()
        raise
    return file


def close_at(file: IO[bytes], size: int) -> None:
    """Closes a file and drops what comes after its first `size` bytes: on a full disk it takes up space."""
    with contextlib.suppress(OSError):  # also what is in the buffer
        file.close()
    with contextlib.suppress(OSError):
        os.truncate(file.name, size)


def sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
