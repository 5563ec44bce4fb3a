"""The error for an optional package that is not installed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from edge_embed.errors import MissingExtraError

_OURS = "edge_embed"
"""The name of this package, with which the names of its sibling packages begin."""


@contextlib.contextmanager
def needs_extra(extra: str | None, purpose: str) -> Iterator[None]:
    """Turns a failed import within the block into an error that names the extra to install.

    Args:
        extra: The extra of this project that brings the package; None leaves the import error as it is.
        purpose: What needs the package, for the message.

    Raises:
        MissingExtraError: If a package of the extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        # A missing module inside one of our packages is a bug, and keeps its traceback.
        bug = package == _OURS or (package.startswith(_OURS) and error.name != package)
        if extra is None or not package or bug:
            raise
        raise MissingExtraError(package, extra=extra, purpose=purpose) from error
