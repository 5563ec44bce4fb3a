"""Metrics, computed with the usual libraries: scipy, scikit-learn and trec_eval.

Every metric has bootstrap draws of its main figure. All models get the same draws of a set, so two models can
be compared pair by pair.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytrec_eval
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from edge_embed.similarity import pairwise, similarity, top
from edge_embed_bench.quality.data import Bitext, Classification, Retrieval, Similarity

SEED = 42

MAIN = {"similarity": "spearman", "retrieval": "ndcg@10", "classification": "accuracy", "bitext": "f1"}
"""The main figure of each kind of set."""

RANKED = 100
"""Documents per query, as many as any metric needs."""

EXPERIMENTS, PER_LABEL, ITERATIONS = 10, 8, 100
"""MTEB's linear probe: ten logistic regressions, each on eight texts per label (arXiv 2210.07316, 3.2)."""

NEIGHBOURS = 10

_ROWS = 512
"""Rows of a similarity table at a time, so that memory does not grow with the square of the set."""

Floats = npt.NDArray[np.float32]
Draws = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """The scores of a model on a set.

    Attributes:
        values: Every metric, by name, 0 to 1 (correlations -1 to 1).
        draws: The main metric of each bootstrap sample.
    """

    values: dict[str, float]
    draws: Draws


def score_similarity(data: Similarity, left: Floats, right: Floats, resamples: int) -> Outcome:
    """Correlates cosines with the scores of people: Spearman's rank correlation, and Pearson's."""
    cosines = pairwise("cosine", left, right).astype(np.float64)
    gold = np.asarray(data.scores, dtype=np.float64)
    values = {
        "spearman": _finite(stats.spearmanr(cosines, gold).statistic),
        "pearson": _finite(stats.pearsonr(cosines, gold).statistic),
    }

    def correlate(places: Places) -> float:
        # What spearmanr does, without the p-value that it spends most of its time on.
        a, b = stats.rankdata(cosines[places]), stats.rankdata(gold[places])
        return _finite(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else 0.0

    return Outcome(values, bootstrap(len(gold), correlate, resamples))


def score_retrieval(
    data: Retrieval, queries: Floats, documents: Floats, measure: str, resamples: int
) -> Outcome:
    """Ranks all documents for each query. Returns trec_eval's nDCG, recall and reciprocal rank."""
    run: dict[str, dict[str, float]] = {}
    for start in range(0, len(queries), _ROWS):
        scores = similarity(measure, queries[start : start + _ROWS], documents)
        best = top(scores, RANKED)
        for key, row, places in zip(data.query_ids[start : start + _ROWS], scores, best, strict=True):
            run[key] = {data.document_ids[i]: float(row[i]) for i in places}
    return score_run(data, run, resamples)


def score_run(data: Retrieval, run: dict[str, dict[str, float]], resamples: int) -> Outcome:
    """Scores rankings: for each query id the scores of the documents found, best first, at most `RANKED`."""
    first_ten = {key: dict(list(ranked.items())[:10]) for key, ranked in run.items()}
    evaluator = pytrec_eval.RelevanceEvaluator(data.qrels, {"ndcg_cut.1,10", "recall.10,100"})
    found = evaluator.evaluate(run)
    ranks = pytrec_eval.RelevanceEvaluator(data.qrels, {"recip_rank"}).evaluate(first_ten)
    nothing: dict[str, float] = {}  # of a query for which nothing was found
    names = {
        "ndcg@10": "ndcg_cut_10",
        "ndcg@1": "ndcg_cut_1",
        "recall@10": "recall_10",
        "recall@100": "recall_100",
    }
    each = {
        name: np.array([found.get(key, nothing).get(theirs, 0.0) for key in data.query_ids])
        for name, theirs in names.items()
    }
    each["mrr@10"] = np.array([ranks.get(key, nothing).get("recip_rank", 0.0) for key in data.query_ids])
    return Outcome(
        {name: float(values.mean()) for name, values in each.items()}, _draw_means(each["ndcg@10"], resamples)
    )


def score_classification(data: Classification, train: Floats, test: Floats, resamples: int) -> Outcome:
    """Trains MTEB's linear probe several times. Returns accuracy and macro F1, mean over the probes."""
    train_labels, test_labels = np.array(data.train_labels), np.array(data.test_labels)
    right, f1 = np.zeros(len(test_labels)), []
    order = np.arange(len(train_labels))
    for _ in range(EXPERIMENTS):
        # As MTEB does: it restarts its generator and shuffles the last order again.
        np.random.RandomState(SEED).shuffle(order)
        chosen = _few_of_each(order, train_labels)
        probe = LogisticRegression(max_iter=ITERATIONS, random_state=SEED)
        with warnings.catch_warnings():
            # The number of iterations is part of the definition.
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit(train[chosen], train_labels[chosen])
        predicted = probe.predict(test)
        right += predicted == test_labels
        f1.append(float(f1_score(test_labels, predicted, average="macro")))
    accuracy = right / EXPERIMENTS
    values = {"accuracy": float(accuracy.mean()), "f1": float(np.mean(f1))}
    return Outcome(values, _draw_means(accuracy, resamples))


def score_bitext(data: Bitext, source: Floats, target: Floats, resamples: int) -> Outcome:
    """Takes the nearest translation of each sentence. Returns F1 as MTEB computes it, and accuracy."""
    gold = np.arange(len(data.source))
    nearest = np.concatenate(
        [
            similarity("cosine", source[i : i + _ROWS], target).argmax(axis=1)
            for i in range(0, len(gold), _ROWS)
        ]
    )
    # Every translation is right once, so that the mean over them is F1 weighted by support.
    each = f1_score(gold, nearest, labels=gold, average=None, zero_division=0)
    values = {"f1": float(each.mean()), "accuracy": float((nearest == gold).mean())}
    return Outcome(values, _draw_means(each, resamples))


def bootstrap(count: int, statistic: Callable[[Places], float], resamples: int) -> Draws:
    """Returns a statistic of `resamples` samples of `count` places, drawn with replacement.

    The draws depend only on the two numbers.
    """
    generator = np.random.default_rng(SEED)
    return np.array([statistic(generator.integers(0, count, count)) for _ in range(resamples)])


def interval(draws: Draws) -> tuple[float, float]:
    """Returns the central 95 %."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def neighbour_agreement(
    ours: tuple[Floats, Floats | None], source: tuple[Floats, Floats | None], measure: str
) -> float:
    """Returns the share of nearest neighbours that a file and its source have in common, text by text.

    Args:
        ours: The queries and the vectors to search. With None for the latter the queries are searched, each
            without itself.
        source: The same of the fp32 source.
        measure: The similarity.
    """
    total, count = 0.0, len(ours[0])
    for start in range(0, count, _ROWS):
        mine, theirs = (_nearest(*pair, start, measure) for pair in (ours, source))
        total += sum(np.intersect1d(a, b).size / len(b) for a, b in zip(mine, theirs, strict=True))
    return total / count


def cosines(ours: Floats, source: Floats) -> Floats:
    """Returns the cosine of each vector with the source's."""
    return pairwise("cosine", ours, source)


def _nearest(askers: Floats, among: Floats | None, start: int, measure: str) -> Places:
    scores = similarity(measure, askers[start : start + _ROWS], askers if among is None else among)
    if among is None:
        scores[np.arange(len(scores)), start + np.arange(len(scores))] = -np.inf
    return top(scores, min(NEIGHBOURS, scores.shape[1] - (among is None)))


def _few_of_each(order: npt.NDArray[np.int64], labels: npt.NDArray[np.str_]) -> list[int]:
    seen: dict[str, int] = {}
    chosen = []
    for place in order:
        label = str(labels[place])
        if seen.get(label, 0) < PER_LABEL:
            seen[label] = seen.get(label, 0) + 1
            chosen.append(int(place))
    return chosen


def _draw_means(values: Draws, resamples: int) -> Draws:
    return bootstrap(len(values), lambda places: float(values[places].mean()), resamples)


def _finite(value: float) -> float:
    """Returns a correlation, 0 where it is undefined because one side is constant."""
    return float(value) if np.isfinite(value) else 0.0
