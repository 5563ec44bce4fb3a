"""The engines: ours, and peers that search exactly, each optional."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edge_embed import Index
from edge_embed.errors import MissingExtraError
from edge_embed_bench.errors import MeasurementError
from edge_embed_bench.retrieval.workload import Given, Workload

ADDED_TOGETHER = 10_000


class Engine(Protocol):
    """What is measured. Built in one process, opened and searched in another."""

    versions: Sequence[str]
    """Distributions whose versions go into the record."""

    def build(self, workload: Workload, path: Path) -> None:
        """Writes the engine's file."""
        ...

    def open(self, workload: Workload, path: Path) -> None:
        """Makes ready to search."""
        ...

    def search(self, query: int, count: int) -> Sequence[int]:
        """Returns the chunks nearest to a query of the workload."""
        ...


class OurIndex:
    """`Index`, through its public interface, hits with texts and snippets included.

    Args:
        memory: As `Index.open` takes it.
        mode: As `Index.search` takes it.
    """

    versions: Sequence[str] = ("edge-embed", "numpy")

    def __init__(self, memory: str, mode: str = "vector") -> None:
        self._memory, self._mode = memory, mode
        self._workload: Workload
        self._index: Index

    def build(self, workload: Workload, path: Path) -> None:
        """Adds the chunks, one document each."""
        texts, _ = workload.texts
        with Index.open(path, Given(workload)) as index:
            for start in range(0, workload.chunks, ADDED_TOGETHER):
                numbers = range(start, min(start + ADDED_TOGETHER, workload.chunks))
                # A document of one short text is one chunk, so chunks keep their order.
                index.add(
                    [{"id": str(number), "text": texts[number % len(texts)]} for number in numbers],
                    show_progress_bar=False,
                )
            if index.stats().chunks != workload.chunks:
                raise MeasurementError(
                    "a text of the corpus does not fit into one chunk",
                    got=f"{index.stats().chunks} chunks",
                    expected=str(workload.chunks),
                )

    def open(self, workload: Workload, path: Path) -> None:
        """Opens the index."""
        self._workload = workload
        self._queries = workload.queries
        self._words = workload.texts[1]
        self._index = Index.open(path, Given(workload), memory=self._memory)

    def search(self, query: int, count: int) -> list[int]:
        """Searches by the query's vector, and in mode "hybrid" by its words too."""
        hits = self._index.search(self._words[query], count, vector=self._queries[query], mode=self._mode)
        return [int(hit.document_id) for hit in hits]


class SqliteVec:
    """sqlite-vec's exact search of float32 vectors, in a SQLite that loads extensions (apsw)."""

    versions: Sequence[str] = ("sqlite-vec", "apsw")

    def _connect(self, path: Path) -> Any:
        try:
            import apsw
            import sqlite_vec
        except ImportError as error:
            raise MissingExtraError("sqlite-vec and apsw", extra="peers", purpose="this peer") from error
        connection = apsw.Connection(os.fspath(path))
        connection.enable_load_extension(True)
        connection.load_extension(sqlite_vec.loadable_path())
        return connection

    def build(self, workload: Workload, path: Path) -> None:
        """Fills a table of vectors."""
        connection = self._connect(path)
        connection.execute(f"CREATE VIRTUAL TABLE chunks USING vec0(vector float[{workload.dimension}])")
        for start in range(0, workload.chunks, ADDED_TOGETHER):
            with connection:
                part = workload.vectors[start : start + ADDED_TOGETHER]
                connection.executemany(
                    "INSERT INTO chunks (rowid, vector) VALUES (?, ?)",
                    ((start + place, row.tobytes()) for place, row in enumerate(part)),
                )
        connection.close()

    def open(self, workload: Workload, path: Path) -> None:
        """Opens the file."""
        self._queries = workload.queries
        self._connection = self._connect(path)

    def search(self, query: int, count: int) -> list[int]:
        """Asks for the nearest rows."""
        rows = self._connection.execute(
            "SELECT rowid FROM chunks WHERE vector MATCH ? AND k = ? ORDER BY distance",
            (self._queries[query].tobytes(), count),
        )
        return [row[0] for row in rows]


class Usearch:
    """usearch's exact search of int8 vectors in memory, with one thread."""

    versions: Sequence[str] = ("usearch",)

    def build(self, workload: Workload, path: Path) -> None:
        """Writes the vectors as int8."""
        np.save(path.with_suffix(".npy"), np.rint(np.asarray(workload.vectors) * 127).astype(np.int8))
        path.with_suffix(".npy").rename(path)

    def open(self, workload: Workload, path: Path) -> None:
        """Reads the vectors."""
        try:
            from usearch.index import MetricKind, search
        except ImportError as error:
            raise MissingExtraError("usearch", extra="peers", purpose="this peer") from error
        self._search, self._metric = search, MetricKind.Cos
        self._rows = np.load(path)
        self._queries = np.rint(workload.queries * 127).astype(np.int8)

    def search(self, query: int, count: int) -> list[int]:
        """Compares with all vectors."""
        found = self._search(self._rows, self._queries[query], count, self._metric, exact=True, threads=1)
        return [int(key) for key in found.keys]


class Faiss:
    """faiss's flat index of float32 vectors in memory, with one thread."""

    versions: Sequence[str] = ("faiss-cpu",)

    def _module(self) -> Any:
        try:
            import faiss
        except ImportError as error:
            raise MissingExtraError("faiss-cpu", extra="peers", purpose="this peer") from error
        faiss.omp_set_num_threads(1)
        return faiss

    def build(self, workload: Workload, path: Path) -> None:
        """Writes a flat index."""
        faiss = self._module()
        index = faiss.IndexFlatIP(workload.dimension)
        index.add(np.asarray(workload.vectors))
        faiss.write_index(index, os.fspath(path))

    def open(self, workload: Workload, path: Path) -> None:
        """Reads the index."""
        self._index = self._module().read_index(os.fspath(path))
        self._queries = workload.queries

    def search(self, query: int, count: int) -> list[int]:
        """Compares with all vectors."""
        return [int(key) for key in self._index.search(self._queries[query : query + 1], count)[1][0]]


def engine(name: str) -> Engine:
    """Returns a new engine by its name in `names.INDEX_ENGINES`."""
    peers: dict[str, type[Engine]] = {"sqlite-vec": SqliteVec, "usearch-int8": Usearch, "faiss-flat": Faiss}
    if name in peers:
        return peers[name]()
    memory, _, mode = name.removeprefix("edge_embed-").partition("-")
    return OurIndex(memory, mode or "vector")


def versions(names: Sequence[str]) -> dict[str, str]:
    """Returns the versions of distributions, "source" where one is not installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "source"
    return found
