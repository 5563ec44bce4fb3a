"""Metrics against worked examples and against formulas written out."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pytrec_eval")
pytest.importorskip("sklearn")

from edge_embed_bench.quality import metrics
from edge_embed_bench.quality.data import Bitext, Classification, Retrieval, Similarity
from edge_embed_bench.quality.metrics import Floats

DRAWS = 50


def at_angles(*degrees: float) -> Floats:
    return np.array([[np.cos(d), np.sin(d)] for d in np.radians(degrees)], np.float32)


def test_spearman_is_of_ranks() -> None:
    data = Similarity("s", ["a"] * 4, ["b"] * 4, [1.0, 2.0, 3.0, 100.0])
    right = metrics.score_similarity(data, at_angles(0, 0, 0, 0), at_angles(80, 60, 30, 10), DRAWS)
    assert right.values["spearman"] == pytest.approx(1.0)
    assert right.values["pearson"] < 0.99
    wrong = metrics.score_similarity(data, at_angles(0, 0, 0, 0), at_angles(10, 30, 60, 80), DRAWS)
    assert wrong.values["spearman"] == pytest.approx(-1.0)


def test_spearman_uses_cosine_and_not_length() -> None:
    data = Similarity("s", ["a"] * 3, ["b"] * 3, [1.0, 2.0, 3.0])
    right = at_angles(80, 50, 10) * np.array([[100], [1], [0.01]], np.float32)
    assert metrics.score_similarity(data, at_angles(0, 0, 0), right, DRAWS).values[
        "spearman"
    ] == pytest.approx(1)


def test_a_constant_model_scores_nothing() -> None:
    data = Similarity("s", ["a"] * 3, ["b"] * 3, [1.0, 2.0, 3.0])
    same = at_angles(0, 0, 0)
    with pytest.warns(Warning, match="constant"):
        outcome = metrics.score_similarity(data, same, same, DRAWS)
    assert outcome.values == {"spearman": 0.0, "pearson": 0.0}
    assert not outcome.draws.any()


def test_ndcg_has_linear_gain_and_trecs_discount() -> None:
    data = Retrieval(
        "r", ["d0", "d1", "d2", "d3"], [""] * 4, ["x"] * 4, ["q"], ["y"], {"q": {"d1": 2, "d3": 1, "d0": 0}}
    )
    documents = at_angles(10, 20, 30, 40)  # ranked d0, d1, d2, d3
    outcome = metrics.score_retrieval(data, at_angles(0), documents, "cosine", DRAWS)
    gained = 2 / np.log2(3) + 1 / np.log2(5)
    ideal = 2 / np.log2(2) + 1 / np.log2(3)
    assert outcome.values["ndcg@10"] == pytest.approx(gained / ideal)
    assert outcome.values["ndcg@1"] == 0.0
    assert outcome.values["mrr@10"] == pytest.approx(1 / 2)
    assert outcome.values["recall@10"] == outcome.values["recall@100"] == 1.0


def test_what_is_beyond_ten_does_not_count() -> None:
    names = [f"d{i:02}" for i in range(30)]
    data = Retrieval("r", names, [""] * 30, ["x"] * 30, ["q"], ["y"], {"q": {"d10": 1, "d25": 1}})
    outcome = metrics.score_retrieval(data, at_angles(0), at_angles(*range(1, 31)), "cosine", DRAWS)
    assert outcome.values["ndcg@10"] == outcome.values["mrr@10"] == outcome.values["recall@10"] == 0.0
    assert outcome.values["recall@100"] == 1.0


def test_retrieval_goes_by_the_models_own_similarity() -> None:
    data = Retrieval("r", ["near", "long"], ["", ""], ["x", "y"], ["q"], ["z"], {"q": {"long": 1}})
    documents = at_angles(5, 40) * np.array([[1], [10]], np.float32)
    found = {
        name: metrics.score_retrieval(data, at_angles(0), documents, name, DRAWS).values["ndcg@1"]
        for name in ("cosine", "dot", "euclidean")
    }
    assert found == {"cosine": 0.0, "dot": 1.0, "euclidean": 0.0}


def test_retrieval_in_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    names, queries = [f"d{i}" for i in range(40)], [f"q{i}" for i in range(9)]
    qrels = {q: {names[i]: 1 for i in rng.integers(0, 40, 3)} for q in queries}
    data = Retrieval("r", names, [""] * 40, ["x"] * 40, queries, ["y"] * 9, qrels)
    vectors = rng.normal(size=(9, 4)).astype(np.float32), rng.normal(size=(40, 4)).astype(np.float32)
    whole = metrics.score_retrieval(data, *vectors, "cosine", DRAWS)
    monkeypatch.setattr(metrics, "_ROWS", 2)
    pieces = metrics.score_retrieval(data, *vectors, "cosine", DRAWS)
    assert whole.values == pytest.approx(pieces.values)


def clusters(count: int, noise: float, seed: int) -> tuple[list[str], Floats]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    centres = np.eye(3, 8)
    return [f"c{i}" for i in labels], (centres[labels] + noise * rng.normal(size=(count, 8))).astype(
        np.float32
    )


def test_classification() -> None:
    (train_labels, train), (test_labels, test) = clusters(90, 0.05, 1), clusters(40, 0.05, 2)
    data = Classification("c", ["x"] * 90, train_labels, ["y"] * 40, test_labels)
    easy = metrics.score_classification(data, train, test, DRAWS)
    assert easy.values["accuracy"] == easy.values["f1"] == 1.0
    noise = np.random.default_rng(3).normal(size=test.shape).astype(np.float32)
    hard = metrics.score_classification(data, train, noise, DRAWS)
    assert 0.1 < hard.values["accuracy"] < 0.6
    low, high = metrics.interval(hard.draws)
    assert low < hard.values["accuracy"] < high


def test_the_probe_learns_from_few() -> None:
    labels = np.array(["a"] * 50 + ["b"] * 5)
    chosen = metrics._few_of_each(np.arange(55), labels)
    assert [str(labels[i]) for i in chosen].count("a") == metrics.PER_LABEL
    assert [str(labels[i]) for i in chosen].count("b") == 5


def test_bitext_f1_is_weighted_by_support() -> None:
    from sklearn.metrics import f1_score

    data = Bitext("b", ["x"] * 4, ["y"] * 4)
    target = at_angles(0, 30, 60, 90)
    source = at_angles(1, 31, 32, 89)  # the third takes the second's translation
    outcome = metrics.score_bitext(data, source, target, DRAWS)
    expected = f1_score([0, 1, 2, 3], [0, 1, 1, 3], average="weighted", zero_division=0)
    assert outcome.values["f1"] == pytest.approx(expected)
    assert outcome.values["accuracy"] == 0.75


def test_draws_depend_on_count_alone() -> None:
    first = metrics.bootstrap(20, lambda places: float(places.sum()), 30)
    again = metrics.bootstrap(20, lambda places: float(places.sum()), 30)
    assert (first == again).all()
    assert len(set(first)) > 20


def test_the_interval_covers_a_mean() -> None:
    values = np.random.default_rng(5).normal(0.5, 0.1, 400)
    low, high = metrics.interval(metrics._draw_means(values, 1000))
    # Of a mean of 400 with deviation 0.1 the 95 % interval is about 0.0098 to each side.
    assert low == pytest.approx(values.mean() - 0.0098, abs=0.0015)
    assert high == pytest.approx(values.mean() + 0.0098, abs=0.0015)


def test_neighbours() -> None:
    rng = np.random.default_rng(2)
    asks, among = rng.normal(size=(30, 6)).astype(np.float32), rng.normal(size=(50, 6)).astype(np.float32)
    other = rng.normal(size=(50, 6)).astype(np.float32)
    assert metrics.neighbour_agreement((asks, among), (asks, among), "cosine") == 1.0
    # By chance 10 of 50 are shared at a rate of a fifth.
    assert metrics.neighbour_agreement((asks, among), (asks, other), "cosine") == pytest.approx(0.2, abs=0.08)
    assert metrics.neighbour_agreement((among, None), (among, None), "cosine") == 1.0


def test_nobody_is_its_own_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_ROWS", 2)
    rows = at_angles(0, 1, 50, 51, 100)
    for start in (0, 2, 4):
        nearest = metrics._nearest(rows, None, start, "cosine")
        for row, places in enumerate(nearest, start):
            assert row not in places
            assert len(places) == 4


def test_few_candidates() -> None:
    rows = at_angles(0, 20, 40)
    assert metrics.neighbour_agreement((rows, rows[:2]), (rows, rows[:2]), "cosine") == 1.0
