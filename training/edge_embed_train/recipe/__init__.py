"""The recipe of a training run: one TOML file, read and checked before anything is computed.

`read_recipe` returns a `Recipe`. docs/training.md describes every key.
"""

from edge_embed_train.recipe.grammar import (
    AdaptStage,
    DataSet,
    HardNegatives,
    Recipe,
    RotateStage,
    Stage,
    StudentStage,
    TrainStage,
)
from edge_embed_train.recipe.read import read_recipe

__all__ = [
    "AdaptStage",
    "DataSet",
    "HardNegatives",
    "Recipe",
    "RotateStage",
    "Stage",
    "StudentStage",
    "TrainStage",
    "read_recipe",
]
