"""`edge_embed bench --index`: builds, opens and searches with each engine, by turns, and reports."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_embed import Embedder
from edge_embed.cli.files import read_texts
from edge_embed.errors import InputError
from edge_embed.progress import progress_bar
from edge_embed_bench.choices import choose
from edge_embed_bench.errors import WorkerError, one_line
from edge_embed_bench.names import INDEX_ENGINES, INDEX_PEERS
from edge_embed_bench.records.machine import describe_machine
from edge_embed_bench.reports.documents import check_document_files, write_document
from edge_embed_bench.retrieval.report import markdown, table
from edge_embed_bench.retrieval.workload import NEIGHBOURS, Workload, embed, make
from edge_embed_bench.worker.process import Launch, WorkerProcess, here

TURN = 20
"""Queries that an engine answers before the next has its turn."""


@dataclass(frozen=True)
class Row:
    """What was measured of one engine at one size.

    Attributes:
        engine: Its name.
        chunks: How many chunks.
        dimension: Dimension of the vectors.
        versions: Versions of its distributions.
        error: Why it could not be measured; None if it was.
        build_seconds: Writing all chunks, vectors being there already.
        file_bytes: Size of its file.
        open_seconds: Opening the file.
        first_seconds: The first query.
        samples: Seconds of each query, in order.
        recall: Share of the ten true neighbours that it found; None for mode "hybrid".
        private_bytes: Private memory above what the process had before opening.
    """

    engine: str
    chunks: int
    dimension: int
    versions: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    build_seconds: float | None = None
    file_bytes: int | None = None
    open_seconds: float | None = None
    first_seconds: float | None = None
    samples: list[float] = field(default_factory=list)
    recall: float | None = None
    private_bytes: int | None = None


def run(args: argparse.Namespace) -> int:
    """Measures and reports.

    Returns:
        1 if an engine of ours could not be measured.
    """
    if len(args.files) != 1 or not args.corpus or not args.queries:
        raise InputError(
            "--index takes one model file, a corpus and queries",
            got=f"{len(args.files)} files",
            fix="edge_embed bench model.tflite --index --corpus documents.jsonl --queries questions.txt",
        )
    check_document_files(args.output)
    peers = choose("peer", args.peers or [], {name: name for name in INDEX_PEERS})
    texts = list(dict.fromkeys(text.strip() for text in read_texts(str(args.corpus), args.field).texts))
    texts = [text for text in texts if text][: args.limit]
    known = set(texts)
    queries = [query for query in read_texts(str(args.queries)).texts if query not in known]
    rows: list[Row] = []
    with ExitStack() as stack:
        work = args.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-embed-bench-")))
        work.mkdir(parents=True, exist_ok=True)
        with Embedder(args.files[0]) as model:
            vectors = embed(model, texts, queries, work)
            dimensions = args.dimensions or [model.get_embedding_dimension()]
        for dimension in dimensions:
            for chunks in args.chunks or [len(texts)]:
                place = work / f"{chunks}x{dimension}"
                workload = make(place, texts, queries, vectors, chunks, dimension)
                rows += measure(workload, [*INDEX_ENGINES, *peers])
    document: dict[str, Any] = {
        "command": "edge_embed bench " + shlex.join(sys.argv[2:]),
        "machine": describe_machine(),
        "queries": len(queries),
        "texts": len(texts),
        "rows": [asdict(row) for row in rows],
    }
    write_document(document, args.output, markdown)
    sys.stdout.write(json.dumps(document) + "\n" if args.json else table(document["rows"]))
    return int(any(row.error and row.engine in INDEX_ENGINES for row in rows))


def measure(workload: Workload, engines: Sequence[str]) -> list[Row]:
    """Measures engines at one workload: built one after another, asked by turns."""
    rows = {name: Row(name, workload.chunks, workload.dimension) for name in engines}
    paths = {name: _file(workload, name) for name in engines}
    with progress_bar(len(engines), f"building {workload.chunks} chunks", unit="engine") as advance:
        for name in engines:
            rows[name] = _build(workload, rows[name], paths, name)
            advance(1)
    with ExitStack() as stack:
        processes: dict[str, WorkerProcess] = {}
        for name, row in rows.items():
            if row.error:
                continue
            try:
                process = stack.enter_context(_process(workload, name, paths[name]))
                opened = process.ask("open")
                rows[name] = replace(
                    row, open_seconds=opened["open_seconds"], first_seconds=opened["first_seconds"]
                )
                processes[name] = process
            except WorkerError as error:
                rows[name] = replace(row, error=one_line(error))
        found: dict[str, list[list[int]]] = {name: [] for name in processes}
        count = len(workload.queries)
        with progress_bar(count, "searching", unit="query") as advance:
            for start in range(0, count, TURN):
                queries = list(range(start, min(start + TURN, count)))
                for name, process in processes.items():
                    answer = process.ask("search", queries=queries)
                    rows[name].samples.extend(answer["seconds"])
                    found[name] += answer["found"]
                advance(len(queries))
        for name, process in processes.items():
            rows[name] = replace(
                rows[name],
                private_bytes=process.ask("memory")["bytes"],
                recall=None if name.endswith("hybrid") else _recall(workload, found[name]),
            )
    return list(rows.values())


def _build(workload: Workload, row: Row, paths: dict[str, Path], name: str) -> Row:
    """Builds an engine's file, unless another mode of ours has built the same."""
    path = paths[name]
    built = path.with_suffix(".built.json")
    if not built.exists():
        for old in path.parent.glob(path.name + "*"):
            old.unlink()
        try:
            with _process(workload, name, path) as process:
                answer = process.ask("build")
        except WorkerError as error:
            return replace(row, error=one_line(error))
        built.write_text(json.dumps(answer), encoding="utf-8")
    answer = json.loads(built.read_text(encoding="utf-8"))
    return replace(
        row,
        build_seconds=answer["seconds"],
        versions=answer["versions"],
        file_bytes=path.stat().st_size,
    )


def _file(workload: Workload, name: str) -> Path:
    return workload.directory / ("edge_embed.db" if name in INDEX_ENGINES else f"{name}.db")


def _process(workload: Workload, name: str, path: Path) -> WorkerProcess:
    launch = here(1)
    command = [
        sys.executable,
        "-m",
        "edge_embed_bench.retrieval.worker",
        name,
        str(workload.directory),
        str(workload.chunks),
        str(workload.dimension),
        str(path),
    ]
    return WorkerProcess(None, threads=1, timeout=3600, launch=Launch(command, launch.environment))


def _recall(workload: Workload, found: Sequence[Sequence[int]]) -> float:
    pairs: Any = zip(found, workload.truth.tolist(), strict=True)
    return sum(len(set(mine) & set(true)) for mine, true in pairs) / (len(found) * NEIGHBOURS)
