"""Score a sentence-transformers model on development sets, while it trains and when checkpoints are merged.

`read_sets` reads the sets, `score` scores a model on them. `edge_embed eval` measures finished files, with
intervals; this room only has to choose between checkpoints.
"""

from edge_embed_train.evaluate.score import mean_score, score
from edge_embed_train.evaluate.sets import DevSet, Pairs, Ranking, read_sets

__all__ = ["DevSet", "Pairs", "Ranking", "mean_score", "read_sets", "score"]
