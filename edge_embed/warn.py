"""Warnings that point at the caller's line, however deep in this package they arise."""

from __future__ import annotations

import contextlib
import sys
import threading
import types
import warnings
from collections.abc import Iterator

_held = threading.local()


@contextlib.contextmanager
def hold_warnings(held: list[tuple[str, type[Warning]]]) -> Iterator[None]:
    """Collects the warnings of this thread, for a caller in another thread that can point at its own line.

    Args:
        held: Receives the message and the category of each warning.
    """
    before, _held.warnings = getattr(_held, "warnings", None), held
    try:
        yield
    finally:
        _held.warnings = before


def warn(message: str, category: type[Warning]) -> None:
    """Warns as if the line that called this package had done so."""
    if (held := getattr(_held, "warnings", None)) is not None:
        held.append((message, category))
        return
    level = 2  # the caller of this function
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] == "edge_embed":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
