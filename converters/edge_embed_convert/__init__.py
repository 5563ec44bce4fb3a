"""Convert a PyTorch sentence encoder into one verified, quantized LiteRT file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_embed_convert.pipeline import Conversion, convert
    from edge_embed_convert.recipes.grammar import RECIPES, Recipe

__all__ = ["RECIPES", "Conversion", "Recipe", "convert"]

_HOMES = {
    "convert": "pipeline",
    "Conversion": "pipeline",
    "RECIPES": "recipes.grammar",
    "Recipe": "recipes.grammar",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that the command line can describe `convert` without loading torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
