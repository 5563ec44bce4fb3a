"""An encoder without a model file, and indexes made with it."""

from __future__ import annotations

import copy
import zlib

import numpy as np
import pytest

from edge_embed import Index


class StubEncoder:
    """Turns each word into a fixed direction and adds them up: texts with the same words are near."""

    def __init__(self, dimension=6, name="stub"):
        self.dimension, self.name = dimension, name
        self.texts = 0

    def fingerprint(self):
        return self.name

    def get_embedding_dimension(self):
        return self.dimension

    def encode_query(self, sentences, /):
        return self._vector(sentences)

    def encode_document(self, sentences, /, *, titles=None):
        self.texts += len(sentences)
        labels = titles or [None] * len(sentences)
        return np.stack([self._vector(f"{t or ''} {s}") for s, t in zip(sentences, labels, strict=True)])

    def _vector(self, text):
        total = np.zeros(self.dimension)
        for word in text.lower().split():
            total += np.random.default_rng(zlib.crc32(word.encode())).normal(size=self.dimension)
        return total if np.any(total) else np.ones(self.dimension)


PLANETS = [
    {"id": "mars", "text": "Mars is the red planet.", "title": "Mars", "metadata": {"lang": "en", "n": 4}},
    {
        "id": "venus",
        "text": "Venus is hot and bright.",
        "metadata": {"lang": "en", "n": 2, "tags": ["x", "y"]},
    },
    {"id": "erde", "text": "Die Erde ist blau.", "metadata": {"lang": "de", "n": 3}},
]


@pytest.fixture
def stub():
    return StubEncoder()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "notes.db"


@pytest.fixture
def index(path, stub):
    with Index.open(path, stub) as opened:
        yield opened


@pytest.fixture
def make_stub():
    return StubEncoder


@pytest.fixture
def documents():
    return copy.deepcopy(PLANETS)


@pytest.fixture
def planets(index):
    index.add(PLANETS)
    return index
