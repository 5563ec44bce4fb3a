"""A whole file through the model, in constant memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_embed.bulk.formats import open_output
from edge_embed.bulk.output import Vectors
from edge_embed.bulk.rows import ALL_DEFAULT, PART, STDIN, Fields, Part, read_parts
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
        resume: Whether to continue an interrupted run.
        restart: Whether to drop what an interrupted run has left.
        part_size: Rows that are read, embedded and written at a time.
        patience: Seconds to wait for another process that writes the same output.
        advance: Called with the number of rows just done.

    Raises:
        InputError: If a file cannot be used. What was done before can be continued with `resume`.
    """
    started = time.perf_counter()
    if resume and source == STDIN:
        raise InputError("stdin cannot be read again", fix="write it to a file first, or leave --resume out")
    target = open_output(output, facts_of(model, source, fields, prompting), model.get_embedding_dimension())
    try:
        target.begin(resume=resume, restart=restart, patience=patience)
        done = target.progress.rows
        advance(done)
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
