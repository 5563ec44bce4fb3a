"""A model file that stays open, and the check that it is still the file that was opened."""

from __future__ import annotations

import contextlib
import hashlib
import os
import weakref
from collections.abc import Iterator
from typing import BinaryIO

from edge_embed.errors import ModelFileError
from edge_embed.model_file.archive import opened, reading
from edge_embed.model_file.manifest import Graph

_CHUNK = 1 << 20


class OpenFile:
    """A model file that stays open for as long as something reads from it.

    A graph reads its constants from the file whenever it runs, so writing to the file changes the graph.
    Replacing the file by a rename does not: this object keeps the old file open, whatever its name holds.

    Args:
        path: The model file.
        graph: The manifest's record of the graph, for its size and its hash; it may be set later.

    Attributes:
        path: The path that was opened.
        descriptor: The descriptor of the open file. Its position belongs to nobody.
        graph: The manifest's record of the graph.

    Raises:
        ModelFileError: If the file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], graph: Graph | None = None) -> None:
        self.path = os.fspath(path)
        with opened(path) as handle:
            self.descriptor = os.dup(handle.fileno())
        self._release = weakref.finalize(self, os.close, self.descriptor)
        self._release.atexit = False
        self.graph = graph
        self._known = self._state()

    def require_unchanged(self) -> None:
        """Checks that nobody wrote to the file since it was opened. This takes microseconds.

        Renaming the file or changing its permissions only changes the time of its last status change. Then
        the graph is hashed once, because that time also shows a write whose other traces were undone.

        Raises:
            ModelFileError: If somebody wrote to it.
        """
        if self.closed:
            raise ModelFileError(f"the model file {self.path} is closed", fix="load the model again")
        state = self._state()
        if state == self._known:
            return
        if state[:-1] != self._known[:-1] or (self.graph and self.hash_graph() != self.graph.sha256):
            raise ModelFileError(
                f"the model file {self.path} was changed while it was in use",
                got="a file with another size, time of modification or content",
                expected="the file that was loaded",
                fix="load the model again; to replace a model file, write the new one under another name and "
                "rename it",
            )
        self._known = state

    def read(self, size: int, offset: int) -> bytes:
        """Returns bytes from a place in the file: fewer than `size` only at its end."""
        chunks = []
        with reading(self.path):
            while size > 0 and (chunk := os.pread(self.descriptor, min(size, _CHUNK), offset)):
                chunks.append(chunk)
                size -= len(chunk)
                offset += len(chunk)
        return b"".join(chunks)

    @contextlib.contextmanager
    def reader(self) -> Iterator[BinaryIO]:
        """Opens the file for reading from its start. Only one reader at a time: readers share a position."""
        with os.fdopen(os.dup(self.descriptor), "rb") as handle, reading(self.path):
            handle.seek(0)
            yield handle

    def hash_graph(self) -> str:
        """Returns the SHA-256 of the file's first bytes, as many as the graph has."""
        digest, size = hashlib.sha256(), self.graph.bytes if self.graph else 0
        for offset in range(0, size, _CHUNK):
            digest.update(self.read(min(_CHUNK, size - offset), offset))
        return digest.hexdigest()

    def close(self) -> None:
        """Closes the file. Calling it again does nothing."""
        self._release()

    @property
    def closed(self) -> bool:
        """Whether the file was closed."""
        return not self._release.alive

    def _state(self) -> tuple[int, ...]:
        status = os.fstat(self.descriptor)
        return status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev, status.st_ctime_ns
