"""Which file lies under a path: an index may be deleted or replaced while it is open."""

from __future__ import annotations

from pathlib import Path

from edge_embed.errors import IndexFileError

Identity = tuple[int, int]
"""The device and the number of a file."""


def identity_of(path: Path) -> Identity | None:
    """Returns which file lies under a path; None if there is none.

    Raises:
        IndexFileError: If the system does not take such a path.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        got = getattr(error, "strerror", None) or str(error)
        raise IndexFileError(f"no index can be at {path}", got=got, fix="choose another path") from error
    return status.st_dev, status.st_ino


def require_same(path: Path, identity: Identity | None) -> None:
    """Refuses to go on with a file that has lost its name: what is written there would be lost.

    Raises:
        IndexFileError: If another file, or none, lies under the path.
    """
    if identity_of(path) != identity:
        raise IndexFileError(
            f"the index {path} was deleted or replaced while it was open",
            fix="open it again with Index.open",
        )
