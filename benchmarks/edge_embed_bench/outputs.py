"""Where records go: a file's ending chooses its form."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_embed.errors import InputError
from edge_embed_bench._files import write_file
from edge_embed_bench.record import Record, to_json
from edge_embed_bench.report_csv import to_csv
from edge_embed_bench.report_markdown import to_markdown

Writer = Callable[[Sequence[Record]], str]

WRITERS: dict[str, Writer] = {".json": to_json, ".csv": to_csv, ".md": to_markdown}


def check_outputs(paths: Sequence[Path]) -> None:
    """Finds out before any measuring what would keep a report from being written.

    Raises:
        InputError: If an ending is unknown, or a directory is missing or cannot be written.
    """
    for path in paths:
        if path.suffix.lower() not in WRITERS:
            raise InputError(
                f"cannot tell what to write to {path}",
                got=f"the ending {path.suffix!r}", expected=", ".join(WRITERS),
            )  # fmt: skip
        folder = path.resolve().parent
        if not folder.is_dir() or not os.access(folder, os.W_OK) or path.is_dir():
            raise InputError(f"{path} cannot be written", fix="name a file in an existing, writable directory")


def write(paths: Sequence[Path], records: Sequence[Record]) -> None:
    """Writes every report anew, each in one step, so that an interrupt leaves the finished records."""
    for path in paths:
        write_file(path, WRITERS[path.suffix.lower()](records).encode("utf-8"))
