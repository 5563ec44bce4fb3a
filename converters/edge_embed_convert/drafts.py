"""Outputs that get their names only when they are complete."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edge_embed.errors import ConversionError
from edge_embed.model_file.archive import reason


def check_new_directory(target: Path) -> None:
    """Checks that a directory can be made at a path, or is there and empty.

    Raises:
        ConversionError: If not.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConversionError(
            f"{target} already exists", expected="a new or an empty directory", fix="choose another path"
        )
    check_parent(target)


def check_parent(target: Path) -> None:
    """Checks that the directory of an output exists.

    Raises:
        ConversionError: If it does not.
    """
    parent = target.absolute().parent
    if not parent.is_dir():
        raise ConversionError(f"cannot write {target}", got=f"no directory {parent}", fix="create it")


@contextlib.contextmanager
def draft_of(target: Path, room: str) -> Iterator[Path]:
    """Gives a path for a draft beside an output, on the same disk. What is left there is removed afterwards.

    Args:
        target: The file or directory to write in the end, with `finish`.
        room: What is needed, for the message.

    Raises:
        ConversionError: If the system refuses to write.
    """
    try:
        place = Path(os.path.abspath(target))
        with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as scratch:
            yield Path(scratch) / place.name
    except OSError as error:
        raise ConversionError(
            f"cannot write {target}; nothing was written",
            got=reason(error),
            expected=f"a writable directory with room for {room}",
            fix="free some space, or choose another path",
        ) from error


def finish(draft: Path, target: Path) -> None:
    """Gives a finished draft its name. An empty directory of that name is replaced."""
    if target.is_dir():
        target.rmdir()
    os.replace(draft, target)
