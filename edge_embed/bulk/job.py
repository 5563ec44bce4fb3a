"""A whole file through the model, in constant memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_embed.bulk.formats import open_output, parquet_facts, parquet_rows
from edge_embed.bulk.output import Output, Vectors
from edge_embed.bulk.parquet import count_rows
from edge_embed.bulk.rows import ALL_DEFAULT, PART, STDIN, Fields, Part, kind_of, read_parts
from edge_embed.errors import InputError
from edge_embed.text.tally import one_warning

if TYPE_CHECKING:
    from edge_embed.embedder import Embedder


@dataclass(frozen=True)
class Summary:
    """What a run has done.

    Attributes:
        rows: Rows of the input, bad ones included.
        embedded: Vectors in the output.
        bad: Rows that could not be embedded.
        bad_path: Where they are listed; None if there are none.
        dimension: Numbers of a vector.
        resumed: Rows that an earlier run had done.
        seconds: How long this run took.
    """

    rows: int
    embedded: int
    bad: int
    bad_path: Path | None
    dimension: int
    resumed: int
    seconds: float


@dataclass(frozen=True)
class Prompting:
    """Which prompt goes before each text: a role ("query" or "document"), or a prompt by name."""

    role: str | None = None
    prompt_name: str | None = None

    def encode(self, model: Embedder, part: Part) -> Vectors:
        """Returns the vectors of a part."""
        if self.role == "query":
            return model.encode_query(part.texts, show_progress_bar=False)
        if self.role == "document":
            return model.encode_document(part.texts, titles=part.titles, show_progress_bar=False)
        return model.encode(part.texts, prompt_name=self.prompt_name, show_progress_bar=False)


DEFAULT_PROMPT = Prompting()


def embed_file(
    model: Embedder,
    source: str,
    output: Path,
    *,
    fields: Fields = ALL_DEFAULT,
    prompting: Prompting = DEFAULT_PROMPT,
    skip_bad: bool = False,
    resume: bool = False,
    restart: bool = False,
    part_size: int = PART,
    patience: float = 0.0,
    kept: Callable[[], bool] | None = None,
    begin: Callable[[int | None, int], object] = lambda total, done: None,
    advance: Callable[[int], object] = lambda rows: None,
) -> Summary:
    """Embeds the texts of a file and writes their vectors to another.

    Args:
        model: The model.
        source: A `.txt`, `.jsonl` or `.parquet` file, the first two also with `.gz` or `.xz`; `-` for stdin.
        output: A `.npy`, `.jsonl` or `.parquet` file. It appears when everything is done.
        fields: The fields that hold texts and titles.
        prompting: The prompt.
        skip_bad: Whether rows without a usable text are listed beside the output; otherwise the first ends
            the run.
        resume: Whether to continue an interrupted run. A Parquet file that such a run has finished is kept.
        restart: Whether to drop what an interrupted run has left.
        part_size: Rows that are read, embedded and written at a time.
        patience: Seconds to wait for another process that writes the same output.
        kept: Says whether the output is finished and kept. It is asked when no other process writes it and no
            interrupted run is there; by default `resume` decides.
        begin: Called once with the number of rows, None where the file does not say, and how many are done.
        advance: Called with the number of rows just done.

    Raises:
        InputError: If a file cannot be used. What was done before can be continued with `resume`.
    """
    started = time.perf_counter()
    if resume and source == STDIN:
        raise InputError("stdin cannot be read again", fix="write it to a file first, or leave --resume out")
    if source != STDIN and output.exists() and os.path.exists(source) and output.samefile(source):
        raise InputError(f"the input and the output are one file: {source}", fix="choose another --output")
    facts = facts_of(model, source, fields, prompting)
    target = open_output(output, facts, model.get_embedding_dimension())
    try:
        target.begin(resume=resume, restart=restart, patience=patience)
        done = target.progress.rows
        if not done and (resume and _is_finished(target.path, facts) if kept is None else kept()):
            return _summary_of(target, time.perf_counter() - started)
        begin(_rows_of(source, fields), done)
        if not target.progress.complete:
            with one_warning():
                for part in read_parts(source, fields, size=part_size, skip=done, keep_bad=skip_bad):
                    target.write(part, prompting.encode(model, part))
                    advance(part.size)
        progress = target.progress
        target.finish()
    finally:
        target.close()
    return Summary(
        progress.rows,
        progress.embedded,
        progress.bad,
        target.bad_path if progress.bad else None,
        progress.dimension,
        done,
        time.perf_counter() - started,
    )


def _is_finished(path: Path, facts: Mapping[str, Any]) -> bool:
    try:
        return path.suffix.lower() == ".parquet" and path.exists() and parquet_facts(path) == facts
    except InputError:  # no Parquet at all: it will be replaced
        return False


def _summary_of(target: Output, seconds: float) -> Summary:
    """Returns the summary of a Parquet output that an earlier run has finished."""
    embedded, bad = parquet_rows(target.path), 0
    if target.bad_path.exists():
        with target.bad_path.open("rb") as lines:
            bad = sum(1 for _ in lines)
    rows = embedded + bad
    bad_path = target.bad_path if bad else None
    return Summary(rows, embedded, bad, bad_path, target.progress.dimension, rows, seconds)


def _rows_of(source: str, fields: Fields) -> int | None:
    return count_rows(source, fields) if kind_of(source, fields)[0] == ".parquet" else None


def facts_of(model: Embedder, source: str, fields: Fields, prompting: Prompting) -> dict[str, Any]:
    """Returns what decides the vectors of a run; see `Progress`.

    Raises:
        InputError: If the source cannot be read.
    """
    manifest = model.manifest
    facts: dict[str, Any] = {
        "model": manifest.name,
        "graph": manifest.graph.sha256,
        "dimension": model.get_embedding_dimension(),
        "prompt": prompting.role or prompting.prompt_name or model.default_prompt_name,
        "overflow": model.overflow,
        "text field": fields.text,
        "title field": fields.title,
    }
    if source != STDIN:
        try:
            status = os.stat(source)
        except OSError as error:
            raise InputError(f"cannot read {source}", got=error.strerror or str(error)) from error
        facts |= {"input": Path(source).name, "input size": status.st_size, "input time": status.st_mtime_ns}
    return facts
