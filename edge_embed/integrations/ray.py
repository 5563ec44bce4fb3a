"""A model file on many machines, with Ray: `Embed` for `Dataset.map_batches`, and folders of Parquet files.

Needs the package ray: ``pip install 'edge-embed[ray]'``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_embed import Embedder
from edge_embed.bulk.folder import Piece, plan_pieces, rows_done
from edge_embed.bulk.job import DEFAULT_PROMPT, Prompting, embed_file
from edge_embed.bulk.rows import ALL_DEFAULT, PART, Fields
from edge_embed.errors import EdgeEmbedError, InputError, RuntimeFailure
from edge_embed.extras import needs_extra
from edge_embed.integrations.frames import Embed, require_graph
from edge_embed.integrations.ray_cluster import Cluster, joined
from edge_embed.warn import Notice, Source, hold_warnings, warn

with needs_extra("ray", "work on many machines"):
    import ray

__all__ = ["Embed", "FolderSummary", "embed_folder"]

RETRIES = 3
"""How often a piece is tried again when its worker or its machine has died. More deaths are its own fault."""

PATIENCE = 60.0
"""Seconds for which a worker waits until a dying one has let go of the same output."""

WAIT_SECONDS = 1.0
"""How long the driver waits at a time: then it shows the progress and sees whether the cluster is there."""

QUEUED = 2
"""Pieces that are handed out for each core: one that runs and one that waits."""


@dataclass(frozen=True)
class FolderSummary:
    """What a run has done.

    Attributes:
        files: Files of the input.
        finished_before: Files that an earlier run had finished.
        rows: Rows that this run has embedded or set aside.
        embedded: Vectors that this run has written, those of pieces that it completed included.
        bad: Rows that could not be embedded.
        bad_paths: Where they are listed.
        dimension: Numbers of a vector.
        seconds: How long this run took.
    """

    files: int
    finished_before: int
    rows: int
    embedded: int
    bad: int
    bad_paths: list[Path]
    dimension: int
    seconds: float


@dataclass(frozen=True)
class _Task:
    """What a worker needs to know for one piece."""

    model: dict[str, Any]
    graph: str
    piece: Piece
    fields: Fields
    prompting: Prompting
    skip_bad: bool
    part_size: int


@dataclass(frozen=True)
class _Done:
    """What a worker answers. Errors travel as their parts, for they must come out as they went in."""

    rows: int = 0
    embedded: int = 0
    bad: int = 0
    bad_path: Path | None = None
    notices: tuple[Notice, ...] = ()
    error: tuple[str, str | None, str | None, str | None] | None = None


_loaded: dict[str, tuple[dict[str, Any], Embedder]] = {}
"""The model of this worker process, kept between its pieces."""


def embed_folder(
    model: Embedder,
    source: str,
    output: Path,
    *,
    fields: Fields = ALL_DEFAULT,
    prompting: Prompting = DEFAULT_PROMPT,
    skip_bad: bool = False,
    restart: bool = False,
    address: str | None = None,
    workers: int | None = None,
    threads: int = 1,
    part_size: int = PART,
    begin: Callable[[int | None, int], object] = lambda total, done: None,
    advance: Callable[[int], object] = lambda rows: None,
) -> FolderSummary:
    """Embeds the Parquet files of a folder on the machines of a Ray cluster.

    Each file is one piece of work: a worker reads, embeds and writes it in parts, in order. Workers need the
    input, the output and the model under the same paths: on one machine, or on a file system that they share.

    A piece whose worker dies is continued by another, and a run that is called again goes on where the last
    one was stopped: finished files are not done again, unfinished ones are continued.

    Args:
        model: The model; workers open its file.
        source: A folder, or a pattern such as `in/*.parquet`.
        output: The folder of the outputs.
        fields: As for `embed_file`.
        prompting: As for `embed_file`.
        skip_bad: As for `embed_file`.
        restart: Whether to do everything anew.
        address: The cluster; None for the one that Ray finds, and else for this machine alone.
        workers: How many workers at most; by default as many as the cluster has cores for.
        threads: Threads, and cores, of a worker.
        part_size: As for `embed_file`.
        begin: Called once with the number of rows, and how many are done.
        advance: Called with the number of rows just done, by all workers.

    Raises:
        InputError: If something cannot be used; see `plan_pieces`. Finished files are kept.
        RuntimeFailure: If the cluster cannot be reached or is lost, or workers die again and again. The same.
    """
    started = time.perf_counter()
    pieces = plan_pieces(model, source, output, fields=fields, prompting=prompting, restart=restart)
    waiting = [piece for piece in pieces if not piece.done]
    shown = _Shown(pieces, advance)
    begin(sum(piece.rows for piece in pieces), shown.before)
    answers: list[_Done] = []
    if waiting:
        with joined(address) as cluster:
            tasks = _tasks(model, fields, prompting, skip_bad, part_size)
            answers.extend(_run(waiting, tasks, cluster, workers, threads, shown))
    return FolderSummary(
        files=len(pieces),
        finished_before=len(pieces) - len(waiting),
        rows=sum(done.rows for done in answers),
        embedded=sum(done.embedded for done in answers),
        bad=sum(done.bad for done in answers),
        bad_paths=[done.bad_path for done in answers if done.bad_path is not None],
        dimension=model.get_embedding_dimension(),
        seconds=time.perf_counter() - started,
    )


def _tasks(
    model: Embedder, fields: Fields, prompting: Prompting, skip_bad: bool, part_size: int
) -> Callable[[Piece], _Task]:
    options = {**model.__getstate__(), "accelerator": "cpu"}
    graph = model.manifest.graph.sha256

    def task(piece: Piece) -> _Task:
        return _Task(options, graph, piece, fields, prompting, skip_bad, part_size)

    return task


class _Shown:
    """What was said of the progress. Unfinished outputs say themselves how many rows they have.

    Args:
        pieces: All pieces.
        advance: Is told of new rows.
    """

    def __init__(self, pieces: list[Piece], advance: Callable[[int], object]) -> None:
        self._advance = advance
        self._rows = {p.source: p.rows if p.done else rows_done(p) for p in pieces}
        self.before = sum(self._rows.values())

    def look(self, piece: Piece) -> None:
        """Says what is new of a piece that is being done."""
        self._say(piece, rows_done(piece))

    def finish(self, piece: Piece) -> None:
        """Says the rest of a piece."""
        self._say(piece, piece.rows)

    def _say(self, piece: Piece, rows: int) -> None:
        if new := max(rows - self._rows[piece.source], 0):
            self._rows[piece.source] = rows
            self._advance(new)


def _run(
    pieces: list[Piece],
    task: Callable[[Piece], _Task],
    cluster: Cluster,
    workers: int | None,
    threads: int,
    shown: _Shown,
) -> Iterator[_Done]:
    """Yields the answer for each piece when it is done."""
    # Ray starts a task anew, on another machine if need be, when its worker has died.
    remote = ray.remote(num_cpus=threads, max_retries=RETRIES)(_embed_piece)
    left = list(reversed(pieces))
    running: dict[Any, Piece] = {}
    try:
        while left or running:
            cluster.check()
            most = workers or max(1, QUEUED * cluster.cores // threads)
            while left and len(running) < most:
                piece = left.pop()
                running[remote.remote(task(piece), threads)] = piece
            ready, _ = ray.wait(list(running), num_returns=1, timeout=WAIT_SECONDS)
            for reference in ready:
                piece = running.pop(reference)
                done = _answer(reference, piece)
                for notice in done.notices:
                    warn(f"{piece.source}: {notice.message}", notice.category)
                shown.finish(piece)
                yield done
            for piece in running.values():
                shown.look(piece)
    finally:
        for reference in [] if cluster.is_lost else running:
            ray.cancel(reference, force=True)


def _answer(reference: Any, piece: Piece) -> _Done:
    try:
        done: _Done = ray.get(reference)
    except ray.exceptions.RayError as error:
        raise RuntimeFailure(
            f"the workers that embedded {piece.source} died",
            got=f"{type(error).__name__}: {str(error).strip().splitlines()[0]}",
            fix="finished files are kept, and the same command goes on; `ray status` and Ray's logs say more",
        ) from error
    if done.error is not None:
        what, got, expected, fix = done.error
        raise InputError(what, got=got, expected=expected, fix=fix)
    return done


def _embed_piece(task: _Task, threads: int) -> _Done:
    """Embeds one file. Runs in a worker."""
    held: list[Notice] = []

    def hold(source: Source) -> bool:
        held.extend(source.notices())
        return True

    try:
        with hold_warnings(hold):
            summary = embed_file(
                _model(task, threads),
                task.piece.source,
                task.piece.output,
                fields=task.fields,
                prompting=task.prompting,
                skip_bad=task.skip_bad,
                resume=True,
                part_size=task.part_size,
                patience=PATIENCE,
                kept=task.piece.is_finished,
            )
    except EdgeEmbedError as error:
        return _Done(error=(error.what, error.got, error.expected, error.fix))
    return _Done(summary.rows, summary.embedded, summary.bad, summary.bad_path, tuple(held))


def _model(task: _Task, threads: int) -> Embedder:
    options = {**task.model, "num_threads": threads}
    kept = _loaded.get("model")
    if kept is not None and kept[0] == options:
        return kept[1]
    if kept is not None:
        kept[1].close()
    model = Embedder(**options)
    require_graph(model.manifest.graph.sha256, task.graph, str(model.path))
    _loaded["model"] = (options, model)
    return model
