"""Warnings that point at the caller's line, however deep in this package they arise."""

from __future__ import annotations

import sys
import types
import warnings


def warn(message: str, category: type[Warning]) -> None:
    """Warns on behalf of the first frame outside this package."""
    level = 2  # the caller of this function
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] == "edge_embed":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
