"""Scores on development sets, by sentence-transformers' evaluators."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge_embed.names import DOCUMENT_PROMPTS, QUERY_PROMPTS
from edge_embed.text.prompts import task_prompt_name
from edge_embed_train.evaluate.sets import DevSet, Pairs, Ranking
from edge_embed_train.quiet import quiet

SIMILARITY_PROMPTS = ("STS",)
"""Under what names models keep the prompt for sentence similarity."""


def score(
    model: Any, sets: Sequence[DevSet], *, batch_size: int = 64, truncate_dim: int | None = None
) -> dict[str, float]:
    """Returns the score on each set: Spearman correlation of cosines, or nDCG at 10; 0 to 1.

    Args:
        model: A sentence-transformers model. Its prompts are used where it has some for the task.
        sets: From `read_sets`.
        batch_size: Texts that are embedded together.
        truncate_dim: How many numbers of each vector are kept.
    """
    prompts: Mapping[str, str] = model.prompts or {}
    training = model.training
    with quiet():
        scores = {
            each.name: SCORERS[type(each)](model, each, prompts, batch_size, truncate_dim) for each in sets
        }
    model.train(training)
    return scores


def mean_score(scores: Mapping[str, float]) -> float:
    """Returns the mean over the sets: one number to choose by."""
    return sum(scores.values()) / len(scores)


def _spearman(model: Any, pairs: Any, prompts: Mapping[str, str], batch: int, dimension: int | None) -> float:
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

    prompt = prompts.get(task_prompt_name(prompts, SIMILARITY_PROMPTS) or "", "")
    evaluator = EmbeddingSimilarityEvaluator(
        [prompt + text for text in pairs.left],
        [prompt + text for text in pairs.right],
        pairs.scores,
        batch_size=batch,
        main_similarity="cosine",
        similarity_fn_names=["cosine"],
        write_csv=False,
        truncate_dim=dimension,
    )
    correlation = float(evaluator(model)["spearman_cosine"])
    # Of equal cosines it is not defined; they order nothing, as a correlation of 0 says.
    return 0.0 if math.isnan(correlation) else correlation


def _ndcg(model: Any, ranking: Any, prompts: Mapping[str, str], batch: int, dimension: int | None) -> float:
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    query, document = (
        prompts.get(task_prompt_name(prompts, names) or "", "") for names in (QUERY_PROMPTS, DOCUMENT_PROMPTS)
    )
    evaluator = InformationRetrievalEvaluator(
        ranking.queries,
        ranking.documents,
        ranking.relevant,
        mrr_at_k=[10],
        ndcg_at_k=[10],
        accuracy_at_k=[10],
        precision_recall_at_k=[10],
        map_at_k=[10],
        batch_size=batch,
        main_score_function="cosine",
        query_prompt=query,
        corpus_prompt=document,
        write_csv=False,
        truncate_dim=dimension,
    )
    return float(evaluator(model)["cosine_ndcg@10"])


SCORERS: Mapping[type[DevSet], Callable[..., float]] = {Pairs: _spearman, Ranking: _ndcg}
"""How each kind of development set is scored."""
