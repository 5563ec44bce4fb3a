"""What a Ray cluster on this machine costs: rate and memory of its workers beside one process.

    python -m edge_embed_bench.published.bulk MODEL --corpus FILE [--field NAME] [--limit N] [--rounds N]
        [--workers N] --output NAME.json,NAME.md

`encode` in bulk in one process, one process that reads and writes Parquet, and workers of one thread that do
the same take turns on the same documents. Needs `pip install 'edge-embed[ray,bench]'`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from edge_embed import Embedder
from edge_embed.bulk.job import Prompting
from edge_embed.bulk.parquet import import_pyarrow
from edge_embed.bulk.rows import Fields, read_parts
from edge_embed.progress import progress_bar
from edge_embed_bench.files import without_directories
from edge_embed_bench.records.machine import describe_machine, usable_cores
from edge_embed_bench.records.stats import median, spread
from edge_embed_bench.reports.documents import check_document_files, write_document
from edge_embed_bench.worker.process import Launch, WorkerProcess, here

GOAL_SHARE, GOAL_MEMORY = 0.9, 1.3

FILES_PER_WORKER = 4
"""So that no worker waits long for the last file."""

SAMPLE_SECONDS = 1.0
"""How often the memory of processes is read. Reading it more often takes time from what is measured."""

WORKER_NAME = "ray::_embed_piece"
"""How Ray names a process that embeds a file."""


def write_files(texts: Sequence[str], folder: Path, count: int) -> None:
    """Writes documents to Parquet files, by turns, so that each has its share of long ones."""
    pyarrow = import_pyarrow("writing Parquet")
    for number in range(count):
        table = pyarrow.table({"text": list(texts[number::count])})
        pyarrow.parquet.write_table(table, folder / f"{number:03}.parquet")


@contextmanager
def watched(processes: Callable[[], Iterator[psutil.Process]]) -> Iterator[dict[str, int]]:
    """Yields the highest private and resident memory of a process, in bytes, while the block runs.

    Both are absent where no process was seen: the block may end before the first look at a worker.
    """
    peak: dict[str, int] = {}
    over = threading.Event()

    def look() -> None:
        for process in processes():
            try:
                memory = process.memory_full_info()
            except psutil.Error:  # it has ended meanwhile
                continue
            peak["private"] = max(peak.get("private", 0), int(memory.uss))
            peak["resident"] = max(peak.get("resident", 0), int(memory.rss))

    def repeat() -> None:
        look()
        while not over.wait(SAMPLE_SECONDS):
            look()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def ray_workers() -> Iterator[psutil.Process]:
    """Yields the processes that embed a file now."""
    for process in psutil.process_iter(["cmdline"]):
        if any(WORKER_NAME in word for word in process.info["cmdline"] or []):
            yield process


@contextmanager
def _process(model: Path, threads: int) -> Iterator[WorkerProcess]:
    launch = here(threads)
    command = [sys.executable, "-m", "edge_embed_bench.published.bulk_worker", str(model), str(threads)]
    with WorkerProcess(None, threads=threads, launch=Launch(command, launch.environment)) as process:
        yield process


def measure(model: Path, texts: Sequence[str], workers: int, rounds: int) -> list[dict[str, Any]]:
    """Returns the turns of all rounds: seconds, and for files the memory of a process that does them."""
    import ray  # an extra

    from edge_embed.integrations.ray import embed_folder

    found = []
    os.environ.setdefault("RAY_worker_niceness", "0")  # else every other program goes before them
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        with (
            tempfile.TemporaryDirectory() as scratch,
            Embedder(model, num_threads=1) as embedder,
            _process(model, workers) as bulk,
            _process(model, 1) as single,
            progress_bar(3 * rounds + 3, "embedding", unit="turn") as advance,
        ):
            source = Path(scratch) / "in"
            source.mkdir()
            write_files(texts, source, FILES_PER_WORKER * workers)
            for number in range(rounds + 1):
                turn: dict[str, Any] = {"bulk": bulk.ask("encode", folder=str(source))}
                advance(1)
                output = Path(scratch) / f"single-{number}"
                own = psutil.Process(single.pid)
                with watched(lambda own=own: iter([own])) as peak:  # type: ignore[misc]
                    turn["single"] = single.ask("files", folder=str(source), output=str(output)) | peak
                advance(1)
                started = time.perf_counter()
                with watched(ray_workers) as peak:
                    summary = embed_folder(
                        embedder,
                        str(source),
                        Path(scratch) / f"ray-{number}",
                        prompting=Prompting("document"),
                        workers=workers,
                    )
                seconds = time.perf_counter() - started
                turn["ray"] = {"texts": summary.embedded, "seconds": seconds, **peak}
                advance(1)
                if number:  # the first one loads models and packs weights
                    found.append(turn)
    finally:
        ray.shutdown()
    return found


def facts(document: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Returns the figures: what was measured, the value, and the goal."""
    rounds, workers = document["rounds"], document["workers"]
    rates = {
        name: [turn[name]["texts"] / turn[name]["seconds"] for turn in rounds]
        for name in ("bulk", "single", "ray")
    }
    shares = [ours / whole for ours, whole in zip(rates["ray"], rates["bulk"], strict=True)]
    seen = [turn for turn in rounds if all("private" in turn[name] for name in ("single", "ray"))]
    rows = [
        (f"`encode` in bulk, one process of {workers} threads, texts/s", spread(rates["bulk"], ".1f"), ""),
        ("Parquet to Parquet, one process of one thread, texts/s", spread(rates["single"], ".1f"), ""),
        (f"the same, {workers} workers of one thread, texts/s", spread(rates["ray"], ".1f"), ""),
        (f"{workers} workers / `encode` in bulk", spread(shares, ".2f"), f"≥ {GOAL_SHARE}"),
    ]
    for kind in ("private", "resident") if seen else ():
        one, worker = (median([turn[name][kind] for turn in seen]) for name in ("single", "ray"))
        goal = f"≤ {GOAL_MEMORY}" if kind == "private" else ""
        rows.append((f"{kind} memory: one process; a worker, MB", f"{one / 1e6:.1f}; {worker / 1e6:.1f}", ""))
        rows.append((f"{kind} memory: a worker / one process", f"{worker / one:.2f}", goal))
    return rows


def markdown(document: Mapping[str, Any]) -> str:
    """Returns the report."""
    lines = [
        "# Workers of a Ray cluster beside one process",
        "",
        f"`{document['command']}`",
        "",
        f"Machine: {document['machine']}. Model: {document['model']}. {document['texts']} documents in "
        f"{document['files']} Parquet files.",
        "",
        "The three take turns in every round; a round before them is not counted. Rates are medians, with "
        "the lowest and the highest. The cluster is there already and its workers have loaded the model; all "
        "that remains of Ray's cost is in the rate. Memory is the highest that was seen of one process, read "
        "once a second, the median of the rounds that saw both kinds. Workers have the priority of other "
        "processes; by default Ray gives them a lower one.",
        "",
        "| | measured | goal |",
        "|---|---|---|",
        *(f"| {name} | {value} | {goal} |" for name, value, goal in facts(document)),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and writes the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--field")
    parser.add_argument("--limit", type=int, default=2000, help="documents (default: 2000)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=usable_cores())
    parser.add_argument(
        "--output", required=True, type=lambda words: [Path(word) for word in words.split(",")]
    )
    args = parser.parse_args(arguments)
    check_document_files(args.output)
    texts = [text for part in read_parts(args.corpus, Fields(args.field)) for text in part.texts][
        : args.limit
    ]
    words = sys.argv[1:] if arguments is None else arguments
    document = {
        "command": shlex.join(
            ["python", "-m", "edge_embed_bench.published.bulk", *map(without_directories, words)]
        ),
        "machine": describe_machine(),
        "model": args.model.name,
        "texts": len(texts),
        "files": FILES_PER_WORKER * args.workers,
        "workers": args.workers,
        "rounds": measure(args.model, texts, args.workers, args.rounds),
    }
    write_document(document, args.output, markdown)
    sys.stdout.write(markdown(document))


if __name__ == "__main__":
    main()
