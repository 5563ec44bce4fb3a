"""Figures of matplotlib, and their bytes."""

from __future__ import annotations

import io
from typing import Any

from edge_embed.errors import MissingExtraError


def new_figure(width: float, height: float) -> Any:
    """Returns an empty figure of matplotlib, its size in inches.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # an extra, and slow to import
    except ImportError as error:
        raise MissingExtraError("matplotlib", extra="bench", purpose="a plot") from error
    return Figure(figsize=(width, height), layout="constrained")


def plot_bytes(figure: Any, suffix: str) -> bytes:
    """Returns a figure as a file of one of `PLOTS`. Equal figures give equal files: they state no date."""
    stream = io.BytesIO()
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix)
    figure.savefig(stream, format=suffix.removeprefix("."), dpi=150, metadata=metadata)
    return stream.getvalue()
