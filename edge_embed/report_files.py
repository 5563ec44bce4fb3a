"""Files that reports are written to: the ending decides the form, and it is checked before any work."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from edge_embed.errors import InputError, MissingExtraError

Report = TypeVar("Report")

PLOTS = (".png", ".svg", ".pdf")
"""Endings of plots, which matplotlib draws."""


def check_report_file(path: Path, endings: Iterable[str]) -> None:
    """Checks that a report can be written to a file.

    Args:
        path: The file.
        endings: The endings that can be written.

    Raises:
        InputError: If its ending is another one, or its directory is missing.
        MissingExtraError: If it is a plot and matplotlib is not installed.
    """
    if path.suffix not in (known := list(endings)):
        raise InputError(
            f"cannot tell what to write to {path}",
            got=f"the ending {path.suffix!r}",
            expected=", ".join(known),
        )
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise InputError(
            f"{path} cannot be written",
            got="a directory" if path.is_dir() else "no such directory",
            fix="create the directory first",
        )
    if path.suffix in PLOTS and importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", extra="bench", purpose="a plot")


def write_report(report: Report, path: Path, writers: Mapping[str, Callable[[Report], bytes]]) -> None:
    """Writes a report in the form that the file's ending names.

    Args:
        report: The report.
        path: The file.
        writers: What makes each form, by ending.

    Raises:
        InputError: If the ending is not among them, or the file cannot be written.
        MissingExtraError: If it is a plot and matplotlib is not installed.
    """
    check_report_file(path, writers)
    write_file(path, writers[path.suffix](report))


def write_file(path: Path, content: bytes) -> None:
    """Writes a file beside its place and renames it.

    Raises:
        InputError: If it cannot be written; then nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise InputError(f"cannot write {path}", got=error.strerror or str(error)) from error
        raise
