"""A model file that a loaded graph runs from, and the check that it is still the file that was loaded."""

from __future__ import annotations

import hashlib
import os
import weakref

from edge_embed.errors import ModelFileError
from edge_embed.model_file.archive import opened
from edge_embed.model_file.manifest import Graph

_CHUNK = 1 << 20


class WatchedFile:
    """A model file that stays open while its graph is loaded.

    A graph reads its constants from the file whenever it runs, so writing to the file changes the graph.
    Replacing the file by a rename does not: this object keeps the old file open, whatever its name holds.

    Args:
        path: The model file.
        graph: The manifest's record of the graph, for its size and its hash.

    Attributes:
        path: The path that was opened.
        descriptor: The descriptor of the open file.

    Raises:
        ModelFileError: If the file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], graph: Graph) -> None:
        self.path = os.fspath(path)
        with opened(path) as handle:
            self.descriptor = os.dup(handle.fileno())
        self._release = weakref.finalize(self, os.close, self.descriptor)
        self._release.atexit = False
        self._graph = graph
        self._known = self._state()

    def require_unchanged(self) -> None:
        """Checks that nobody wrote to the file since it was opened. This takes microseconds.

        Renaming the file or changing its permissions only changes the time of its last status change. Then
        the graph is hashed once, because that time also tells of a write whose other traces were undone.

        Raises:
            ModelFileError: If somebody wrote to it.
        """
        state = self._state()
        if state == self._known:
            return
        if state[:-1] != self._known[:-1] or self._digest() != self._graph.sha256:
            raise ModelFileError(
                f"the model file {self.path} was changed while it was in use",
                got="a file with another size, time of modification or content",
                expected="the file that was loaded",
                fix="load the model again; to replace a model file, write the new one under another name and "
                "rename it",
            )
        self._known = state

    def close(self) -> None:
        """Closes the file. Calling it again does nothing."""
        self._release()

    def _state(self) -> tuple[int, ...]:
        status = os.fstat(self.descriptor)
        return status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev, status.st_ctime_ns

    def _digest(self) -> str:
        digest, size = hashlib.sha256(), self._graph.bytes
        for offset in range(0, size, _CHUNK):
            digest.update(os.pread(self.descriptor, min(_CHUNK, size - offset), offset))
        return digest.hexdigest()
