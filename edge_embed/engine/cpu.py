"""The graph of a model file on the CPU: each bucket compiled when a text of its length comes.

All buckets work on the same packed weights, which XNNPACK maps from one file. The first that is compiled
makes that file, and holds every weight in it; the others find theirs there. So a process pays for the
lengths that it meets: 6 MB and some milliseconds each for EmbeddingGemma, and nothing for the rest.
"""

from __future__ import annotations

import collections
import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Sequence

from edge_embed.engine.base import IN_MEMORY, Engine, call, check_signatures, closed
from edge_embed.engine.litert.c_api import Graph, LiteRtError
from edge_embed.engine.litert.flatbuffer import keep_only, mapped, signatures
from edge_embed.engine.litert.log import quiet_stderr
from edge_embed.engine.parallel import SHORT
from edge_embed.engine.watched_file import WatchedFile
from edge_embed.errors import RuntimeFailure, WeightCacheWarning
from edge_embed.model_file.manifest import Manifest, Vector
from edge_embed.names import signature_name
from edge_embed.warn import warn

_BY_DESCRIPTOR = sys.platform == "linux" and hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd")
"""Whether a file can be named by its descriptor, so that it needs no name of its own."""


class CpuEngine(Engine):
    """A model file's graph on the CPU.

    A bucket has one graph that splits its work between all threads, and up to `workers` that run alone on one
    thread each. Who asks for a graph that is busy waits for it.

    Args:
        path: The model file.
        manifest: Its manifest.
        num_threads: Threads of each bucket's XNNPACK delegate.
        weight_cache: A file for packed weights, made if it is missing or garbage, or `IN_MEMORY`.

    Raises:
        ModelFileError: If the graph is not the one that the manifest describes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        manifest: Manifest,
        num_threads: int,
        weight_cache: str,
    ) -> None:
        super().__init__(manifest)
        self._path, self.workers = os.fspath(path), num_threads
        self._graphs: list[Graph] = []
        self._idle: dict[tuple[int, int], list[Graph]] = {}  # by bucket and threads
        self._made: collections.Counter[tuple[int, int]] = collections.Counter()
        self._closed = False
        self._free = threading.Condition()
        self._weights = _Weights(weight_cache)
        # The file that was opened is the file that later buckets come from, whatever the path holds then.
        self._file = WatchedFile(path, manifest.graph)
        self._release = weakref.finalize(self, _release, self._graphs, self._file, self._weights)
        self._release.atexit = False  # the process ends anyway, and LiteRT would say so
        with mapped(self._file.descriptor) as data:
            check_signatures(signatures(data), manifest)
        self._register()

    def close(self) -> None:
        """Releases all graphs once they have ended what they run. Calling it again does nothing."""
        with self._free:
            self._closed = True
            self._free.wait_for(lambda: sum(map(len, self._idle.values())) == len(self._graphs))
            self._release()
            self._idle.clear()

    def abandon(self) -> None:
        """Forgets the graphs in a forked child: the threads of their delegates exist only in the parent."""
        if self._release.detach():
            self._weights.close()
            self._file.close()

    def _invoke(self, length: int, ids: Sequence[int], alone: bool) -> Vector:
        kind = length, 1 if alone and length <= SHORT else self.workers
        taken: list[Graph] = []
        try:
            self._take(kind, taken)
            self._file.require_unchanged()
            vector = taken[0].run(ids, self._pad_id)
            self._file.require_unchanged()
            return vector
        except LiteRtError as error:
            raise RuntimeFailure("LiteRT cannot run the graph", got=str(error)) from error
        finally:
            # Ahead of the lock, at which an interrupt may come: a graph that is lost is waited for.
            self._idle.setdefault(kind, []).extend(taken)
            with self._free:
                self._free.notify_all()

    def _take(self, kind: tuple[int, int], taken: list[Graph]) -> None:
        """Moves an idle graph of a bucket and so many threads to `taken`, compiling one if need be."""
        length, threads = kind
        most = self.workers // threads
        with self._free:
            idle = self._idle.setdefault(kind, [])
            self._free.wait_for(lambda: self._closed or idle or self._made[kind] < most)
            if self._closed:
                raise closed(self._name)
            if not idle:
                # Under the lock: two that are compiled at once would both pack the weights.
                idle.append(self._compile(length, threads))
                self._made[kind] += 1
            taken.append(idle.pop())

    def _compile(self, length: int, threads: int) -> Graph:
        self._file.require_unchanged()
        data = mapped(self._file.descriptor)
        keep_only(data, signature_name(length))
        weights = self._weights.path()
        graph = call(
            f"LiteRT cannot load {self._path}",
            lambda: Graph(data, length, self._dimension, threads, weights),
        )
        self._weights.packed()
        self._graphs.append(graph)
        return graph


class _Weights:
    """The file in which a process's graphs find their packed weights, in memory or on disk.

    Args:
        path: Where the first graph packs them, or `IN_MEMORY`.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._state: tuple[int, int] | None = None
        if path == IN_MEMORY or ("\n" in path and not _BY_DESCRIPTOR):  # LiteRT reads options by lines
            self._use_memory()
        elif _BY_DESCRIPTOR:
            self._open(os.O_RDWR | os.O_CREAT)

    def path(self) -> str:
        """Returns the path for the next graph; another one if somebody wrote to the file meanwhile."""
        if self._state is not None and self._state != self._now():
            self.close()
            self._use_memory()
            warn(
                "packed weights were changed while they were in use; this process packs its own copy",
                WeightCacheWarning,
            )
        return self._path

    def packed(self) -> None:
        """Keeps hold of the file that a graph has packed or found, so that removing it takes nothing away."""
        if self._state is not None or self._path == IN_MEMORY:
            return
        if self._descriptor is None:
            self._open()
        self._state = self._now()

    def close(self) -> None:
        """Lets go of the file. Graphs have mapped what they need."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = self._state = None

    def _use_memory(self) -> None:
        self._path = IN_MEMORY  # in which each graph packs a copy of its own
        if _BY_DESCRIPTOR:
            with contextlib.suppress(OSError):
                self._hold(os.memfd_create("packed-weights"))

    def _open(self, to_make_it: int = 0) -> None:
        for flags in (os.O_RDONLY, to_make_it):
            with contextlib.suppress(OSError):  # LiteRT packs into memory where it finds no file
                self._hold(os.open(self._path, flags, 0o600))
                return

    def _hold(self, descriptor: int) -> None:
        self._descriptor = descriptor
        if _BY_DESCRIPTOR:
            self._path = f"/proc/self/fd/{descriptor}"

    def _now(self) -> tuple[int, int] | None:
        if self._descriptor is None:
            return None
        status = os.fstat(self._descriptor)
        return status.st_size, status.st_mtime_ns


def _release(graphs: list[Graph], file: WatchedFile, weights: _Weights) -> None:
    with quiet_stderr():
        for graph in graphs:
            graph.close()
    graphs.clear()
    weights.close()
    file.close()
