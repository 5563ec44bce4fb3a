"""Placement: which projections a model has, and which scheme a recipe has for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn

from edge_embed.errors import RecipeError
from edge_embed_convert.families import Projection
from edge_embed_convert.recipes.grammar import Recipe, Scheme

if TYPE_CHECKING:
    from edge_embed_convert.graph.rewrite import EmbeddingModel

HEAD: Mapping[str, Projection] = {"dense": Projection("projection", "dense")}
"""The Dense modules after pooling, which every family may have."""


GRID, OFFSET, COARSE, FINE = "grid", "offset", "coarse", "fine"
"""The parts that a projection is split into for some schemes: see `recipes.grid` and `recipes.planes`."""

OFFSET_SCHEME = Scheme(8)
"""How an offset is stored: it has one weight for each block of its projection."""


def projections(model: nn.Module) -> dict[str, nn.Linear]:
    """Returns every projection of a model by its path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)}


def projection_at(model: EmbeddingModel, path: str) -> Projection:
    """Returns what the family says of the projection at a path such as `encoder.layers.3.query`."""
    known = {**model.family.projections, **HEAD}
    return next(known[part] for part in reversed(path.split(".")) if part in known)


def group_of(model: EmbeddingModel, path: str) -> str:
    """Returns the recipe group of the projection at a path."""
    return projection_at(model, path).group


def place_of(path: str) -> str:
    """Returns how the grammar spells a path: `3.query` for `encoder.layers.3.query`."""
    parts = [part for part in path.split(".") if part not in (GRID, OFFSET, COARSE, FINE)]
    return ".".join(parts[-2:])


def scheme_of(model: EmbeddingModel, path: str, recipe: Recipe) -> Scheme:
    """Returns the scheme that a recipe has for the projection at a path."""
    if path.endswith(f".{OFFSET}"):
        return OFFSET_SCHEME
    return recipe.scheme_at(group_of(model, path), place_of(path))


def check_places(model: EmbeddingModel, recipe: Recipe) -> None:
    """Checks that the model has every projection that a recipe names.

    Raises:
        RecipeError: If one is missing, with those that exist.
    """
    places = {place_of(path) for path in projections(model)}
    for place, _ in recipe.overrides:
        if place not in places:
            raise RecipeError(
                "the model has no such projection",
                got=place,
                expected=f"one of {', '.join(sorted(places))}",
            )
