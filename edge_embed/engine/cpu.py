"""The graph of a model file on the CPU: each bucket compiled when a text of its length comes.

All buckets work on the same packed weights, which XNNPACK maps from one file. The first that is compiled
makes that file, and holds every weight in it; the others find theirs there. So a process pays for the
lengths that it meets: 6 MB and some milliseconds each for EmbeddingGemma, and nothing for the others.

Graphs are made, kept and released in threads that no interrupt reaches. A text that runs by itself runs in
the caller's thread, in one step of the interpreter: handing it to another thread and back takes 30 µs on an
idle machine and many milliseconds on a busy one.
"""

from __future__ import annotations

import collections
import os
import threading
import weakref
from collections.abc import Sequence

from edge_embed.engine.base import Engine, closed_error
from edge_embed.engine.litert.c_api import Graph
from edge_embed.engine.litert.calls import GraphClosedError, LiteRtError, call_litert, quietly
from edge_embed.engine.litert.flatbuffer import keep_only, mapped, signatures
from edge_embed.engine.litert.installed import (
    C_INTERFACE,
    has_known_c_interface,
    package_directory,
    versions,
)
from edge_embed.engine.litert.python_api import CompiledFile, FileGraph, compile_for_cpu
from edge_embed.engine.litert.signatures import check_signatures
from edge_embed.engine.packed_weights import BY_DESCRIPTOR, PackedWeights
from edge_embed.engine.parallel import SHORT
from edge_embed.engine.uninterrupted import uninterrupted
from edge_embed.errors import LiteRtVersionWarning, ModelFileError, RuntimeFailure, WeightCacheWarning
from edge_embed.model_file.manifest import Manifest, Vector
from edge_embed.model_file.open_file import OpenFile
from edge_embed.names import signature_name
from edge_embed.warn import warn

AnyGraph = Graph | FileGraph

_versions_warned_of: set[str] = set()


class CpuEngine(Engine):
    """A model file's graph on the CPU.

    A bucket has one graph that splits its work between all threads, and up to `workers` that run on one
    thread each, beside each other. A text waits while the graph that it needs is busy.

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
        self._c_interface = has_known_c_interface()
        if not self._c_interface:
            _warn_of_version()
        self.workers = num_threads if self._c_interface else 1
        self._num_threads = num_threads
        self._graphs: list[AnyGraph] = []
        self._shared: dict[int, AnyGraph] = {}  # by bucket: split between all threads
        # By bucket, on one thread each: those that do not run, and how many there are.
        self._idle: dict[int, list[AnyGraph]] = collections.defaultdict(list)
        self._made: collections.Counter[int] = collections.Counter()
        self._compiled: CompiledFile | None = None  # all buckets at once, without the C interface
        self._closed = False
        self._lock = threading.Condition()  # only for threads that no interrupt reaches
        self._weights = PackedWeights(weight_cache)
        # The file that was opened is the file that later buckets come from, whatever the path holds then.
        self._file = OpenFile(path, manifest.graph)
        self._release = weakref.finalize(self, _release, self._graphs, self._file, self._weights)
        self._release.atexit = False  # the process ends anyway, and LiteRT would print to its log
        with mapped(self._file.descriptor) as data:
            check_signatures(signatures(data), manifest)
        self._register()

    def close(self) -> None:
        """Releases all graphs once they have ended what they run. Calling it again does nothing."""
        uninterrupted(self._close)

    def abandon(self) -> None:
        """Forgets the graphs in a forked child: the threads of their delegates exist only in the parent."""
        if self._release.detach():
            if self._compiled is not None:
                self._compiled.abandon()
            self._weights.close()
            self._file.close()

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            self._lock.notify_all()
            self._release()
            self._shared.clear()
            self._idle.clear()

    def _invoke(self, length: int, ids: Sequence[int], alone: bool) -> Vector:
        run = self._run_alone if alone and length <= SHORT else self._run_shared
        while True:
            try:
                self._file.require_unchanged()
                vector = run(length, ids)
                self._file.require_unchanged()
                if self._weights.unchanged():
                    return vector
            except GraphClosedError:  # by `close`, or because the packed weights were changed
                if self._closed:
                    raise closed_error(self._name) from None
            except LiteRtError as error:
                raise RuntimeFailure("LiteRT cannot run the graph", got=str(error)) from error
            except (ModelFileError, OSError):
                if self._closed:  # and with it the files
                    raise closed_error(self._name) from None
                raise

    def _run_shared(self, length: int, ids: Sequence[int]) -> Vector:
        """Runs a text on all threads."""
        graph = self._shared.get(length)
        if graph is None or not self._weights.unchanged():
            graph = uninterrupted(lambda: self._prepare(length))
        return graph.run(ids, self._pad_id)

    def _prepare(self, length: int) -> AnyGraph:
        """Returns the graph of a bucket on all threads, compiling it if need be."""
        with self._lock:
            self._require_usable()
            if length not in self._shared:
                self._shared[length] = self._compile(length, self._num_threads)
            return self._shared[length]

    def _run_alone(self, length: int, ids: Sequence[int]) -> Vector:
        """Runs a text on one thread, beside others."""

        def run() -> Vector:
            graph = self._take_idle(length)
            try:
                return graph.run(ids, self._pad_id)
            finally:
                with self._lock:
                    if not graph.closed:
                        self._idle[length].append(graph)
                    self._lock.notify_all()

        return uninterrupted(run)

    def _take_idle(self, length: int) -> AnyGraph:
        """Takes a graph of a bucket on one thread, compiling it if need be."""

        def ready() -> bool:
            return self._closed or bool(self._idle[length]) or self._made[length] < self.workers

        with self._lock:
            self._require_usable()
            self._lock.wait_for(ready)
            self._require_usable()
            if self._idle[length]:
                return self._idle[length].pop()
            graph = self._compile(length, 1)
            self._made[length] += 1
            return graph

    def _require_usable(self) -> None:
        """Checks that the engine is open. Drops all graphs if the weights that they share were changed."""
        if self._closed:
            raise closed_error(self._name)
        if self._weights.unchanged():
            return
        quietly(lambda: [graph.close() for graph in self._graphs])
        for graphs in (self._graphs, self._shared, self._idle, self._made):
            graphs.clear()
        self._weights.use_memory()
        warn(
            "packed weights were changed while they were in use; this process packs its own copy",
            WeightCacheWarning,
        )

    def _compile(self, length: int, threads: int) -> AnyGraph:
        """Compiles a bucket. Under the lock: two that are compiled at once would both pack the weights."""
        compiled = self._compile_signature if self._c_interface else self._compile_file
        graph = call_litert(f"LiteRT cannot load {self._file.path}", lambda: compiled(length, threads))
        self._weights.packed()
        self._graphs.append(graph)
        return graph

    def _compile_signature(self, length: int, threads: int) -> Graph:
        data = mapped(self._file.descriptor)
        keep_only(data, signature_name(length))
        return Graph(data, length, self._dimension, threads, self._weights.path)

    def _compile_file(self, length: int, threads: int) -> FileGraph:
        if self._compiled is None or self._compiled.closed:
            # By its descriptor it is the file that was opened, whatever the path holds now.
            path = f"/proc/self/fd/{self._file.descriptor}" if BY_DESCRIPTOR else self._file.path
            self._compiled = compile_for_cpu(path, threads, self._weights.path, self._dimension, self._pad_id)
        return FileGraph(self._compiled, length)


def _release(graphs: list[AnyGraph], file: OpenFile, weights: PackedWeights) -> None:
    quietly(lambda: [graph.close() for graph in graphs])
    graphs.clear()
    weights.close()
    file.close()


def _warn_of_version() -> None:
    """Warns, once in a process, that the installed LiteRT is used in a slower way."""
    found = ", ".join(versions(package_directory())) or "of an unknown version"
    if found in _versions_warned_of:
        return
    _versions_warned_of.add(found)
    warn(
        f"ai-edge-litert {found} is used through its public Python interface, which compiles all lengths of "
        "a model when it is loaded and runs one text at a time. "
        f"For full speed: pip install 'ai-edge-litert=={C_INTERFACE}*'",
        LiteRtVersionWarning,
    )
