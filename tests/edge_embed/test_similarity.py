"""The similarity measures against their definitions."""

import numpy as np
import pytest

from edge_embed.errors import InputError
from edge_embed.similarity import pairwise, similarity, top

DEFINITIONS = {
    "cosine": lambda a, b: a @ b / (np.linalg.norm(a) * np.linalg.norm(b)),
    "dot": lambda a, b: a @ b,
    "euclidean": lambda a, b: -np.sqrt(((a - b) ** 2).sum()),
    "manhattan": lambda a, b: -np.abs(a - b).sum(),
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_every_measure_is_its_definition(name):
    random = np.random.default_rng(3)
    a, b = random.normal(size=(5, 6)).astype(np.float32), random.normal(size=(7, 6)).astype(np.float32)
    matrix = np.array([[DEFINITIONS[name](x, y) for y in b] for x in a])
    assert np.allclose(similarity(name, a, b), matrix, atol=1e-5)
    assert np.allclose(similarity(name, a[0], b), matrix[:1], atol=1e-5)
    assert np.allclose(pairwise(name, a, b[:5]), matrix.diagonal(), atol=1e-5)
    assert similarity(name, a[:0], b).shape == (0, 7)
    assert similarity(name, a.tolist(), b.tolist()).dtype == np.float32


def test_a_zero_vector_is_similar_to_nothing():
    assert similarity("cosine", [[0.0, 0.0]], [[1.0, 0.0]]).tolist() == [[0.0]]


def test_what_cannot_be_compared():
    for compare in (similarity, pairwise):
        with pytest.raises(InputError, match="shapes"):
            compare("cosine", np.ones((2, 3)), np.ones((2, 4)))
        with pytest.raises(InputError, match="unknown similarity"):
            compare("hamming", np.ones((2, 3)), np.ones((2, 3)))
        with pytest.raises(InputError, match="shape"):
            compare("cosine", np.ones((2, 3, 4)), np.ones((2, 3)))


def test_the_greatest_scores_come_first_and_equal_ones_keep_their_order():
    rows = np.array([[1.0, 2.0, 2.0, 0.0], [3.0, 3.0, 4.0, 4.0]], np.float32)
    assert top(rows, 3).tolist() == [[1, 2, 0], [2, 3, 0]]
    assert top(rows[0]).tolist() == [1, 2, 0, 3]
    assert top([0.5], 9).tolist() == [0]
