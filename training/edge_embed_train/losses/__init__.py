"""The losses of EmbeddingGemma's recipe.

`nce`, `spread_out`, `matching`, `relational`, `within_rows` and `cut` are plain functions of vectors.
`EmbeddingLoss` combines them as one loss that sentence-transformers' trainer takes.
"""

from edge_embed_train.losses.formulas import Key, cut, matching, nce, relational, spread_out, within_rows
from edge_embed_train.losses.loss import CachedEmbeddingLoss, EmbeddingLoss, LossOptions, TeacherVectors

__all__ = [
    "CachedEmbeddingLoss",
    "EmbeddingLoss",
    "Key",
    "LossOptions",
    "TeacherVectors",
    "cut",
    "matching",
    "nce",
    "relational",
    "spread_out",
    "within_rows",
]
