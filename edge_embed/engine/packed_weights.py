"""The file in which all graphs of a process find their packed weights."""

from __future__ import annotations

import contextlib
import os
import sys

IN_MEMORY = ":memory"
"""The weight cache path that keeps packed weights in this process."""

BY_DESCRIPTOR = sys.platform == "linux" and hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd")
"""Whether a file can be named by its descriptor, so that it needs no name of its own."""


class PackedWeights:
    """The file of packed weights, in memory or on disk. It stays open, so that removing it changes nothing.

    Args:
        path: Where the first graph packs them, or `IN_MEMORY`.

    Attributes:
        path: What LiteRT gets as the path.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._nameless = False
        self._state: tuple[int, int] | None = None
        if path == IN_MEMORY or ("\n" in path and not BY_DESCRIPTOR):  # LiteRT reads options by lines
            self.use_memory()
        elif BY_DESCRIPTOR:
            self._open(os.O_RDWR | os.O_CREAT)

    def unchanged(self) -> bool:
        """Returns whether nobody wrote to the file since a graph packed or found its weights there."""
        return self._state is None or self._state == self._now()

    def packed(self) -> None:
        """Remembers the file as it is, now that a graph has packed or found its weights there."""
        # A file without a name is out of reach for others: its state need not be looked at before each text.
        if self._state is not None or self.path == IN_MEMORY or self._nameless:
            return
        if self._descriptor is None:
            self._open()
        self._state = self._now()

    def close(self) -> None:
        """Closes the file. Graphs keep what they have mapped."""
        descriptor, self._descriptor, self._state = self._descriptor, None, None
        if descriptor is not None:
            os.close(descriptor)

    def use_memory(self) -> None:
        """Turns to a new, empty file in memory."""
        self.close()
        self.path = IN_MEMORY  # where each graph packs a copy of its own
        if BY_DESCRIPTOR:
            with contextlib.suppress(OSError):
                self._hold(os.memfd_create("packed-weights"))
                self._nameless = True

    def _open(self, to_make_it: int = 0) -> None:
        for flags in (os.O_RDONLY, to_make_it):
            with contextlib.suppress(OSError):  # LiteRT packs into memory where it finds no file
                self._hold(os.open(self.path, flags, 0o600))
                return

    def _hold(self, descriptor: int) -> None:
        self._descriptor = descriptor
        if BY_DESCRIPTOR:
            self.path = f"/proc/self/fd/{descriptor}"

    def _now(self) -> tuple[int, int] | None:
        if self._descriptor is None:
            return None
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns
