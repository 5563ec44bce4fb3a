"""`Embedder`: sentence-transformers' names and semantics, and every input that can go wrong."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_embed.engine.base import Engine
from edge_embed.errors import (
    InputError,
    TextTooLongError,
    TruncationWarning,
)

TEXTS = ["the red planet", "water and stone", "birds fly home before night"]


def test_shapes(model):
    rows = model.encode(TEXTS)
    assert (rows.shape, rows.dtype) == ((3, 8), np.float32)
    assert model.encode(TEXTS[0]).shape == (8,)
    assert model.encode([TEXTS[0]]).shape == (1, 8)
    assert np.array_equal(model.encode(TEXTS[1]), rows[1])
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)


def test_the_same_texts_in_other_containers(model):
    rows = model.encode(TEXTS)
    for same in (tuple(TEXTS), np.array(TEXTS), iter(TEXTS), (t for t in TEXTS)):
        assert np.array_equal(model.encode(same), rows)
    assert np.array_equal(model.encode(np.array(TEXTS[0])), rows[0])
    assert np.array_equal(model.encode(np.str_(TEXTS[0])), rows[0])


def test_an_empty_list(model):
    for empty in ([], (), np.array([], dtype=str)):
        assert model.encode(empty).shape == (0, 8)
    assert model.encode([], truncate_dim=4).shape == (0, 4)
    assert model.encode_document([], titles=[]).shape == (0, 8)
    assert model.similarity(model.encode([]), model.encode(TEXTS)).shape == (0, 3)


@pytest.mark.parametrize(
    "text", ["", " ", "\n\t  ", "🙂", "\0", "a\0b\0", "ﷺ", "e\u0301" * 9, "<eos>", "[SEP]"]
)
def test_unusual_texts_have_vectors(model, text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        vector = model.encode(text)
    assert np.isfinite(vector).all()
    assert np.isclose(np.linalg.norm(vector), 1.0, atol=1e-6)


def test_a_megabyte_of_text(model):
    text = "the red planet " * 70_000
    with pytest.warns(TruncationWarning):
        vector = model.encode(text)
    assert np.isfinite(vector).all()
    with pytest.raises(TextTooLongError):
        model.encode(text, overflow="error")


@given(texts=st.lists(st.text(max_size=60), max_size=4))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore::edge_embed.errors.TruncationWarning")
def test_any_texts(model, texts):
    rows = model.encode(texts)
    assert rows.shape == (len(texts), 8)
    assert np.isfinite(rows).all()


@pytest.mark.parametrize(
    "sentences", [None, 3, b"bytes", {"a": 1}, ["a", None], ["a", 3], [b"a"], [["a", "b"]], object()]
)
def test_what_is_no_text(model, sentences):
    for encode in (model.encode, model.encode_query, model.encode_document, model.tokenize):
        with pytest.raises(InputError):
            encode(sentences)


@pytest.mark.parametrize(
    "sentences",
    [{"a", "b"}, frozenset("a"), set(), {"a": 1}.keys(), {1: "a"}.values(), {"a": "b"}.items()],
)
def test_texts_without_an_order(model, sentences):
    for encode in (model.encode, model.encode_query, model.encode_document, model.tokenize):
        with pytest.raises(InputError, match="have no order") as caught:
            encode(sentences)
        assert type(sentences).__name__ in str(caught.value)


def test_a_lone_surrogate_is_named(model):
    with pytest.raises(InputError, match="text 1 holds a lone surrogate") as caught:
        model.encode(["fine", "bad \ud83d"])
    assert "position 4" in str(caught.value)
    assert model.encode(str(caught.value.got).encode("utf-8", "replace").decode()).shape == (8,)


def test_errors_are_values_errors_too(model):
    with pytest.raises(ValueError, match="not a text"):
        model.encode([3])


def test_the_smallest_bucket_that_fits(words, monkeypatch):
    used = []
    run = Engine.run
    monkeypatch.setattr(
        Engine, "run", lambda self, length, ids, alone: used.append(length) or run(self, length, ids, alone)
    )
    for count in (1, 6, 7, 14, 15, 30):
        words.encode(" ".join(["red"] * count))
    assert used == [8, 8, 16, 16, 32, 32]


def test_padding_does_not_change_a_vector(words):
    ids = words.tokenize(["the red planet"])[0]
    rows = [words._load().run(length, ids) for length in (8, 16, 32)]
    assert np.allclose(rows, rows[0], atol=1e-6)
