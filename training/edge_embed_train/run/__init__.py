"""Run a recipe: its stages one after another, each from the checkpoint that the one before it wrote.

`train` runs one, or goes on where a run was stopped. `estimate` tells what a run will take.
"""

from edge_embed_train.run.engine import Trained, train
from edge_embed_train.run.estimate import StageEstimate, estimate

__all__ = ["StageEstimate", "Trained", "estimate", "train"]
