"""Run quantized sentence encoders on the device, from one file that is checked each time it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge_embed._version import __version__
from edge_embed.errors import EdgeEmbedError

if TYPE_CHECKING:
    from edge_embed.embedder import Embedder
    from edge_embed.retrieval import Index

__all__ = ["EdgeEmbedError", "Embedder", "Index", "__version__"]

_LAZY = {"Embedder": "edge_embed.embedder", "Index": "edge_embed.retrieval"}
"""Public names and the modules that define them, imported at first use: help needs no numpy."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
