"""`Embedder.encode_stream`: the vectors of `encode`, in order, from an iterator that is read in parts."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_embed.errors import InputError, TextTooLongError, TruncationWarning

TEXTS = [f"{word} {number}" for number in range(10) for word in ("red planet", "water", "", "small birds")]
LONG = "the red planet mars " * 30


@settings(max_examples=25, deadline=None)
@given(count=st.integers(0, len(TEXTS)), ahead=st.integers(1, 50))
def test_the_vectors_of_encode_in_order(words, count, ahead):
    got = list(words.encode_stream(iter(TEXTS[:count]), read_ahead=ahead))
    assert len(got) == count
    if count:
        np.testing.assert_array_equal(np.stack(got), words.encode(TEXTS[:count]))


def test_roles_prompts_and_options(words):
    for options, expected in (
        ({"role": "query"}, words.encode_query(TEXTS)),
        ({"role": "document"}, words.encode_document(TEXTS)),
        ({"prompt_name": "query", "role": "document"}, words.encode_query(TEXTS)),
        ({"prompt": "mars ", "truncate_dim": 4}, words.encode(TEXTS, prompt="mars ", truncate_dim=4)),
    ):
        np.testing.assert_array_equal(np.stack([*words.encode_stream(TEXTS, **options)]), expected)


def test_it_reads_no_further_ahead_and_keeps_nothing(words):
    taken = itertools.count()
    endless = (f"water {next(taken)}" for _ in itertools.repeat(None))
    vectors = words.encode_stream(endless, read_ahead=5)
    assert next(taken) == 0  # nothing was read yet
    kept = [next(vectors) for _ in range(11)]
    assert next(taken) == 1 + 15
    assert all(vector.base is None for vector in kept)  # none holds the vectors of its part
    vectors.close()


def test_one_warning_for_all_parts(words):
    with pytest.warns(TruncationWarning, match="2 of 7 texts") as caught:
        list(words.encode_stream([LONG, *TEXTS[:5], LONG], read_ahead=2))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stream = words.encode_stream(TEXTS, read_ahead=2)
        next(stream)
        with pytest.warns(TruncationWarning):  # other calls keep their own warnings meanwhile
            words.encode(LONG)


def test_errors_name_the_text_and_come_after_the_vectors_before(words):
    stream = words.encode_stream([*TEXTS[:4], 7], read_ahead=2)
    assert len(list(itertools.islice(stream, 4))) == 4
    with pytest.raises(InputError, match="item 4"):
        next(stream)
    with pytest.raises(TextTooLongError, match="text 3"):
        list(words.encode_stream([*TEXTS[:3], LONG], overflow="error", read_ahead=2))

    def broken():
        yield "water"
        raise RuntimeError("the source ended")

    stream = words.encode_stream(broken(), read_ahead=1)
    next(stream)
    with pytest.raises(RuntimeError, match="the source ended"):
        next(stream)


@pytest.mark.parametrize(
    ("texts", "options"),
    [
        ("one text", {}),
        ({"a", "b"}, {}),
        (None, {}),
        ([], {"role": "image"}),
        ([], {"read_ahead": 0}),
        ([], {"truncate_dim": 99}),
        ([], {"prompt_name": "nothing"}),
        ([], {"overflow": "drop"}),
    ],
)
def test_arguments_are_checked_at_once(words, texts, options):
    with pytest.raises(InputError):
        words.encode_stream(texts, **options)
