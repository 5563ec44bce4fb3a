"""The recipe of a conversion, where the user may leave it open. Needs no PyTorch."""

from __future__ import annotations

from edge_embed_convert.recipes.grammar import Recipe
from edge_embed_convert.source.checkpoint import Checkpoint


def choose_recipe(checkpoint: Checkpoint, recipe: str | None) -> Recipe:
    """Returns the recipe of a name. The default is the checkpoint's own recipe, or else its family's.

    Raises:
        RecipeError: If the recipe is unknown.
    """
    family, trained = checkpoint.family, checkpoint.trained_recipe
    # Training with quantization in the loop has put the weights where min-max rounding is best, so that
    # a known name stands for the plain recipe: no balance and no GPTQ.
    return Recipe.parse(recipe or trained or family.default_recipe, {} if trained else family.recipes)
