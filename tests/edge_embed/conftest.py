"""Loaded tiny models, one of each kind of tokenizer."""

import pytest

from edge_embed import Embedder


@pytest.fixture(scope="module", params=["tiny_model", "tiny_sentencepiece_model"])
def path(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def model(path):
    with Embedder(path, weight_cache="memory") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def words(tiny_model):
    """A model with one id per word, for counting."""
    with Embedder(tiny_model, weight_cache="memory") as loaded:
        yield loaded
