"""A process that builds or searches with one engine. One JSON object a line in, one a line out.

`python -m edge_embed_bench.retrieval.worker ENGINE DIRECTORY CHUNKS DIMENSION PATH`
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from edge_embed_bench.errors import MeasurementError
from edge_embed_bench.retrieval.engines import Engine, engine, versions
from edge_embed_bench.retrieval.workload import NEIGHBOURS, Workload
from edge_embed_bench.worker.answering import answer_requests
from edge_embed_bench.worker.measure import read_memory


class Worker:
    """Answers requests.

    Args:
        name: The engine's name.
        workload: What is indexed and asked.
        path: The engine's file.
    """

    def __init__(self, name: str, workload: Workload, path: Path) -> None:
        self._engine: Engine = engine(name)
        self._workload, self._path = workload, path
        self._before = 0

    def build(self) -> dict[str, Any]:
        """Builds the file."""
        start = time.perf_counter()
        self._engine.build(self._workload, self._path)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "versions": versions(self._engine.versions)}

    def open(self) -> dict[str, Any]:
        """Opens the file and asks the first query."""
        # Read before, so that the engine's memory is its own.
        _ = self._workload.queries, self._workload.texts
        self._before = _private_bytes()
        start = time.perf_counter()
        self._engine.open(self._workload, self._path)
        opened = time.perf_counter()
        self._engine.search(0, NEIGHBOURS)
        return {"open_seconds": opened - start, "first_seconds": time.perf_counter() - opened}

    def search(self, queries: list[int]) -> dict[str, Any]:
        """Asks queries."""
        seconds, found = [], []
        for query in queries:
            start = time.perf_counter()
            hits = self._engine.search(query, NEIGHBOURS)
            seconds.append(time.perf_counter() - start)
            found.append(list(hits))
        return {"seconds": seconds, "found": found}

    def memory(self) -> dict[str, Any]:
        """Returns how much private memory the engine has taken since before it was opened."""
        return {"bytes": _private_bytes() - self._before}


def _private_bytes() -> int:
    found = read_memory()["anonymous_bytes"]
    if found is None:
        raise MeasurementError("the system does not report the private memory of a process", expected="Linux")
    return found


def _worker(words: list[str]) -> Worker:
    name, directory, chunks, dimension, path = words
    return Worker(name, Workload(Path(directory), int(chunks), int(dimension)), Path(path))


if __name__ == "__main__":
    answer_requests(lambda: _worker(sys.argv[1:]))
