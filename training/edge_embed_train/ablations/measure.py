"""What is measured of a small model: similarity, retrieval, and what quantized or cut vectors lose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from edge_embed_train.evaluate import Pairs
from edge_embed_train.qat import quantize_model, restore_model, trainable_recipe

Floats = npt.NDArray[np.float32]


def measure(
    model: Any, similarity: Pairs, queries: Sequence[str], passages: Sequence[str], *, int4: bool = True
) -> dict[str, float]:
    """Returns the metrics of a model, each 0 to 1.

    Args:
        model: A sentence-transformers model.
        similarity: Pairs of sentences with scores.
        queries: Held-out queries.
        passages: The passage of each query, in the same order.
        int4: Also measures with all weights rounded to int4.

    Returns:
        `sts` (Spearman correlation), `retrieval` (mean reciprocal rank of a query's passage among all),
        the mean and the deviation of cosines of unrelated texts, and what `sts` loses with the signs of
        vectors only, with a quarter of the dimensions, and with weights in int4.
    """
    left, right = _encode(model, similarity.left), _encode(model, similarity.right)
    sts = _spearman(left, right, similarity.scores)
    q, p = _encode(model, queries), _encode(model, passages)
    scores = q @ p.T
    own = scores.diagonal()
    ranks = (scores > own[:, None]).sum(1) + 1
    others = scores[~np.eye(len(q), dtype=bool)]
    quarter = left.shape[1] // 4
    found = {
        "sts": sts,
        "retrieval": float((1 / ranks).mean()),
        "cosine_mean": float(others.mean()),
        "cosine_deviation": float(others.std()),
        "sts_binary_loss": sts - _spearman(np.sign(left), np.sign(right), similarity.scores),
        "sts_quarter_loss": sts - _spearman(left[:, :quarter], right[:, :quarter], similarity.scores),
    }
    if int4:
        quantize_model(model, trainable_recipe("int4"))
        left, right = _encode(model, similarity.left), _encode(model, similarity.right)
        found["sts_int4_loss"] = sts - _spearman(left, right, similarity.scores)
        restore_model(model, forget=True)
    return found


def _encode(model: Any, texts: Sequence[str]) -> Floats:
    vectors: Floats = model.encode(
        list(texts), batch_size=64, normalize_embeddings=True, show_progress_bar=False, prompt=""
    )
    return vectors


def _spearman(left: Floats, right: Floats, scores: Sequence[float]) -> float:
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines = (left * right).sum(1) / np.maximum(norms, 1e-12)
    return float(spearmanr(cosines, scores).statistic)
