"""Retrieval through an index: chunks, int8 and sign bits, words and fusion, beside exact search.

Each set is put into an index as a user would put it there, and every question is asked in several ways. A
document counts by its best chunk.
"""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed import Embedder, Index
from edge_embed.errors import InputError
from edge_embed.progress import Step, Ticker
from edge_embed.similarity import top
from edge_embed_bench.quality import metrics
from edge_embed_bench.quality.data import Retrieval, read_all
from edge_embed_bench.quality.evaluate import RESAMPLES
from edge_embed_bench.records.machine import describe_machine

WAYS: dict[str, dict[str, Any]] = {
    "index, exact float": {"mode": "vector", "exact": True},
    "index, vector": {"mode": "vector"},
    "index, text": {"mode": "text"},
    "index, hybrid": {"mode": "hybrid"},
}
WHOLE = "whole documents, exact float"
"""Every document as one text, cut where the model ends, as benchmarks do it."""

TOOLS = ("edge-embed", "ai-edge-litert", "numpy", "pytrec-eval-terrier")


@dataclass(frozen=True)
class Way:
    """One way of searching one set.

    Attributes:
        model: The model file.
        data: The set.
        way: How it was searched.
        value: nDCG@10, 0 to 1.
        low: The lower end of its 95 % bootstrap interval.
        high: The upper end.
        metrics: Every metric of retrieval.
        ms_per_query: Median time of a search, the question embedded before.
    """

    model: str
    data: str
    way: str
    value: float
    low: float
    high: float
    metrics: dict[str, float]
    ms_per_query: float


@dataclass(frozen=True)
class Indexed:
    """An index that was made.

    Attributes:
        chunk_tokens: The most tokens of a chunk.
        lexical: "words" or "trigrams".
        seconds: Time of adding all documents, embedding included; None where they were in the index already.
    """

    model: str
    data: str
    documents: int
    chunks: int
    chunk_tokens: int
    overlap: int
    lexical: str
    bytes: int
    seconds: float | None


@dataclass(frozen=True)
class IndexReport:
    """What was measured, and on what."""

    indexes: list[Indexed]
    ways: list[Way]
    resamples: int
    machine: str
    versions: dict[str, str]
    command: str = ""
    schema_version: int = field(default=1)


def evaluate_through_index(
    models: Sequence[str],
    data: Sequence[str | Path],
    *,
    folder: Path | None = None,
    resamples: int = RESAMPLES,
    num_threads: int | None = None,
    progress: Step = lambda step, done, total: None,
) -> IndexReport:
    """Evaluates model files on retrieval sets through an index.

    Args:
        models: Model files.
        data: Directories of retrieval sets.
        folder: Where the indexes are kept, one a model and set, and used again; by default nowhere.
        resamples: Bootstrap draws.
        num_threads: Threads of one run of a file.
        progress: Called as each step begins with its name, the steps done, and the steps in all.

    Raises:
        InputError: If a set is not of retrieval.
        ModelFileError: If a file is not one of ours.
    """
    sets = read_all(data)
    for each in sets:
        if not isinstance(each, Retrieval):
            raise InputError(f"{each.name} is not a retrieval set", got=each.kind, fix="leave it out")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    indexes: list[Indexed] = []
    ways: list[Way] = []
    ticker = Ticker(progress, len(models) * len(sets))
    for model in models:
        with Embedder(model, num_threads=num_threads) as embedder:
            for each in sets:
                assert isinstance(each, Retrieval)
                ticker(f"{Path(model).name} on {each.name}")
                with tempfile.TemporaryDirectory() as other:
                    place = (folder or Path(other)) / f"{embedder.path.stem}.{each.name}.db"
                    indexed, found = _search_all_ways(embedder, each, place, resamples)
                indexes.append(indexed)
                ways += found
    versions = {tool: importlib.metadata.version(tool) for tool in TOOLS}
    return IndexReport(indexes, ways, resamples, describe_machine(), versions)


def _search_all_ways(
    model: Embedder, data: Retrieval, path: Path, resamples: int
) -> tuple[Indexed, list[Way]]:
    name = model.path.name
    documents = [
        {"id": key, "title": title, "text": text}
        for key, title, text in zip(data.document_ids, data.titles, data.documents, strict=True)
    ]
    with Index.open(path, model, vectors="float32") as index:
        started = time.perf_counter()
        added = index.add(documents, show_progress_bar=False)
        seconds = None if added.unchanged else round(time.perf_counter() - started, 1)
        stats = index.stats()
        indexed = Indexed(
            name,
            data.name,
            stats.documents,
            stats.chunks,
            stats.chunk_tokens,
            stats.overlap,
            stats.lexical,
            stats.file_bytes,
            seconds,
        )
        queries = model.encode_query(data.queries)
        ways = [_whole_documents(model, data, queries, resamples)]
        for way, options in WAYS.items():

            def search(place: int, options: dict[str, Any] = options) -> list[str]:
                hits = index.search(
                    data.queries[place], metrics.RANKED, vector=queries[place], per_document=True, **options
                )
                return [hit.document_id for hit in hits]

            ways.append(_scored(name, data, way, search, resamples))
    return indexed, ways


def _whole_documents(model: Embedder, data: Retrieval, queries: metrics.Floats, resamples: int) -> Way:
    titles = [title or None for title in data.titles]
    vectors = model.encode_document(data.documents, titles=titles, overflow="truncate")

    def search(place: int) -> list[str]:
        scores = np.asarray(model.similarity(queries[place], vectors))
        return [data.document_ids[found] for found in top(scores[0], metrics.RANKED)]

    return _scored(model.path.name, data, WHOLE, search, resamples)


def _scored(model: str, data: Retrieval, way: str, search: Callable[[int], list[str]], resamples: int) -> Way:
    run: dict[str, dict[str, float]] = {}
    times = []
    for place, key in enumerate(data.query_ids):
        started = time.perf_counter()
        found = search(place)
        times.append(time.perf_counter() - started)
        # trec_eval sorts by score and breaks ties by id; the ranks keep the order that was found.
        run[key] = {document: float(-rank) for rank, document in enumerate(found)}
    outcome = metrics.score_run(data, run, resamples)
    low, high = metrics.interval(outcome.draws)
    main = outcome.values[metrics.MAIN[data.kind]]
    return Way(model, data.name, way, main, low, high, outcome.values, 1e3 * float(np.median(times)))


def to_json(report: IndexReport) -> str:
    """Returns the report as JSON."""
    return json.dumps(asdict(report), ensure_ascii=False, indent=1) + "\n"


def to_markdown(report: IndexReport) -> str:
    """Returns the report as Markdown, scores times 100."""
    lines = ["# Retrieval through an index", "", f"`{report.command}`", "", report.machine, ""]
    lines += [", ".join(f"{tool} {version}" for tool, version in report.versions.items()), ""]
    for indexed in report.indexes:
        time_taken = "" if indexed.seconds is None else f", indexed in {indexed.seconds:.0f} s"
        lines += [
            f"## {indexed.data}, {indexed.model}",
            "",
            f"{indexed.documents} documents in {indexed.chunks} chunks of at most {indexed.chunk_tokens} "
            f"tokens, {indexed.overlap} of them repeated; {indexed.lexical}; {indexed.bytes / 1e6:.1f} MB, "
            f"float32 vectors included{time_taken}.",
            "",
            "| search | nDCG@10 | 95 % | nDCG@1 | recall@10 | recall@100 | MRR@10 | ms a query |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for way in report.ways:
            if (way.model, way.data) == (indexed.model, indexed.data):
                shown = [way.metrics[name] for name in ("ndcg@1", "recall@10", "recall@100", "mrr@10")]
                cells = [way.way, f"{100 * way.value:.2f}", f"{100 * way.low:.2f} to {100 * way.high:.2f}"]
                cells += [*(f"{100 * value:.2f}" for value in shown), f"{way.ms_per_query:.1f}"]
                lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


WRITERS: dict[str, Callable[[IndexReport], bytes]] = {
    ".json": lambda report: to_json(report).encode(),
    ".md": lambda report: to_markdown(report).encode(),
}
"""What is written, by the ending of the file."""
