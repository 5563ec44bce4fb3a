"""Warnings that point at the caller's line, however deep in this package they arise."""

from __future__ import annotations

import sys
import types
import warnings

from edge_embed.errors import PaddingWarning, TruncationWarning


def warn(message: str, category: type[Warning]) -> None:
    """Warns on behalf of the first frame outside this package."""
    level = 2  # the caller of this function
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] == "edge_embed":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def warn_of_cuts(cut: int, total: int, max_tokens: int, longest: int) -> None:
    """Warns that texts were cut."""
    warn(
        f"{cut} of {total} texts were cut to {max_tokens} tokens; the longest has {longest}. "
        "Choose overflow='mean' to read all of it, overflow='error' to refuse it.",
        TruncationWarning,
    )


def warn_of_padding(padding: int, total: int) -> None:
    """Warns that texts spell the padding token."""
    warn(
        f"{padding} of {total} texts spell the padding token, which the model does not see. "
        "Spell it otherwise if it is meant as text.",
        PaddingWarning,
    )
