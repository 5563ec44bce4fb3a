"""The fusion of cosine and BM25."""

from __future__ import annotations

import numpy as np
import pytest

from edge_embed import Index
from edge_embed.retrieval.search.fuse import standardized_sum

COSINES = {"a": 0.7, "b": 0.6, "c": 0.2}
WORDS = {"b": 9.0, "c": 8.0}


def test_the_score_is_the_weighted_sum_of_standardized_scores():
    x, y = np.array([0.7, 0.6, 0.2]), np.array([0.0, 9.0, 8.0])
    expected = 0.6 * (x - x.mean()) / x.std() + 0.4 * (y - y.mean()) / y.std()
    assert list(standardized_sum(COSINES, WORDS, (0.6, 0.4)).values()) == pytest.approx(expected, abs=1e-4)


def test_the_order_does_not_depend_on_the_size_or_the_origin_of_either_score():
    other_model = {key: 0.8 + cosine / 10 for key, cosine in COSINES.items()}
    longer_query = {key: 3 * score for key, score in WORDS.items()}
    assert standardized_sum(other_model, longer_query, (0.6, 0.4)) == standardized_sum(
        COSINES, WORDS, (0.6, 0.4)
    )


def test_a_side_that_tells_nothing_apart_changes_nothing():
    assert standardized_sum(COSINES, {}, (0.6, 0.4)) == standardized_sum(COSINES, WORDS, (0.6, 0.0))
    same = dict.fromkeys("abc", 0.5)
    assert standardized_sum(same, {}, (0.6, 0.4)) == dict.fromkeys("abc", 0.0)
    assert standardized_sum({}, {}, (0.6, 0.4)) == {}


def test_one_weight_alone_gives_the_order_of_its_side(path, make_stub):
    colours = ["red", "blue", "green", "red red", "blue red", "grey"]
    with Index.open(path, make_stub(dimension=16)) as index:
        index.add({"id": str(n), "text": f"{colour} stone {n}"} for n, colour in enumerate(colours))

        def found(mode, **options):
            return [hit.document_id for hit in index.search("red stone 0", mode=mode, **options)]

        assert found("hybrid", weights=(1, 0)) == found("vector")
        # Scores are rounded, so that words of nearly the same BM25 may change places.
        words = found("text")
        assert found("hybrid", weights=(0, 1))[0] == words[0]
        assert set(found("hybrid", weights=(0, 1))[: len(words)]) == set(words)
        (one,) = index.search("grey", 1)
        assert one.vector_score is not None
