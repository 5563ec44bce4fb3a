"""Writes records as files. The ending of a file decides its form."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edge_embed.errors import InputError, MissingExtraError
from edge_embed.report_files import write_file
from edge_embed_bench.records.record import Record, to_json
from edge_embed_bench.reports.csv import to_csv
from edge_embed_bench.reports.markdown import to_markdown

Quality = Mapping[str, float]
Writer = Callable[[Sequence[Record], Quality], str | bytes]


def _html(records: Sequence[Record], quality: Quality) -> str:
    from edge_embed_bench.reports.html import to_html  # few reports have plots

    return to_html(records, quality)


def _picture(form: str) -> Writer:
    def write(records: Sequence[Record], quality: Quality) -> bytes:
        from edge_embed_bench.reports.plots import draw

        return draw(records, quality, form)

    return write


PLOTTED: dict[str, Writer] = {
    ".html": _html,
    **{f".{form}": _picture(form) for form in ("png", "svg", "pdf")},
}
"""Forms that take a second or more. They are written once, at the end."""

WRITERS: dict[str, Writer] = {
    ".json": lambda records, _: to_json(records),
    ".csv": lambda records, _: to_csv(records),
    ".md": lambda records, _: to_markdown(records),
    **PLOTTED,
}


def check_outputs(paths: Sequence[Path]) -> None:
    """Checks before any measurement that the reports can be written.

    Raises:
        InputError: If an ending is unknown, or a directory is missing or cannot be written.
        MissingExtraError: If it has plots and matplotlib is not installed.
    """
    for path in paths:
        if path.suffix.lower() not in WRITERS:
            raise InputError(
                f"cannot tell what to write to {path}",
                got=f"the ending {path.suffix!r}",
                expected=", ".join(WRITERS),
            )
        if path.suffix.lower() in PLOTTED and importlib.util.find_spec("matplotlib") is None:
            raise MissingExtraError("matplotlib", extra="bench", purpose=f"writing {path.name}")
        folder = path.resolve().parent
        if not folder.is_dir() or not os.access(folder, os.W_OK) or path.is_dir():
            raise InputError(
                f"{path} cannot be written", fix="name a file in an existing, writable directory"
            )


def write(
    paths: Sequence[Path],
    records: Sequence[Record],
    quality: Quality | None = None,
    *,
    plots: bool = True,
    full: bool = False,
) -> None:
    """Writes every report again, each in one step, so that an interrupt leaves complete files.

    Args:
        paths: The files to write.
        records: The records so far.
        quality: Scores by the model file's name.
        plots: Whether to write those of `PLOTTED` too.
        full: Whether Markdown gets every figure; the other forms always do.
    """
    for path in paths:
        form = path.suffix.lower()
        if plots or form not in PLOTTED:
            wide = full and form == ".md"
            content = to_markdown(records, full=True) if wide else WRITERS[form](records, quality or {})
            write_file(path, content if isinstance(content, bytes) else content.encode("utf-8"))
