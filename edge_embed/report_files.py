"""Files that reports are written to: the ending decides the form, and it is checked before any work."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from edge_embed.errors import InputError, MissingExtraError

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
