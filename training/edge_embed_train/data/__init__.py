"""Training data: read, kept on disk, mined for hard negatives, mixed into batches.

`read_rows` streams rows from files or the hub. `build_table` writes them into an Arrow file that is
mapped, not loaded. `teacher_vectors` computes a teacher's vectors once, `mine_negatives` finds hard
negatives among them. `MixtureBatchSampler` draws batches of one data set each. `dirichlet_mixtures`
draws mixtures around a given one.
"""

from edge_embed_train.data.batches import MixtureBatchSampler, dirichlet_mixtures, proportions
from edge_embed_train.data.mine import mine_negatives
from edge_embed_train.data.sources import Row, Source, read_rows
from edge_embed_train.data.tables import Table, build_table
from edge_embed_train.data.teacher import StoredVectors, principal_axes, teacher_vectors

__all__ = [
    "MixtureBatchSampler",
    "Row",
    "Source",
    "StoredVectors",
    "Table",
    "build_table",
    "dirichlet_mixtures",
    "mine_negatives",
    "principal_axes",
    "proportions",
    "read_rows",
    "teacher_vectors",
]
