"""The paper's ablations on small models: `python -m edge_embed_train.ablations NAME …` runs one of them.

`ABLATIONS` are their arms as recipes, `run_ablation` trains every arm with every seed and compares.
Small models on little data show signs and not sizes of effects, and an interval that holds 0 shows nothing.
"""

from edge_embed_train.ablations.arms import ABLATIONS, Ablation, Arm
from edge_embed_train.ablations.measure import measure
from edge_embed_train.ablations.run import run_ablation, to_markdown

__all__ = ["ABLATIONS", "Ablation", "Arm", "measure", "run_ablation", "to_markdown"]
