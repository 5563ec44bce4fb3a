"""Sentences, and versions of texts that differ in one or two words."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from edge_embed.errors import InputError
from edge_embed_train.data import Source, build_table
from edge_embed_train.data.augment import (
    CHANGES,
    Change,
    joined,
    seen_after,
    sentences,
    source_rows,
    version,
    with_variants,
)
from edge_embed_train.data.sources import Row

TEXTS = [
    "A man is playing a guitar on the street.",
    "A woman is playing a flute in the garden.",
    "The dog is running on the grass, and the cat is sleeping.",
    "Two boys are kicking a ball in the garden.",
]
ROWS = [Row(text) for text in TEXTS]


def test_every_different_sentence_is_a_row() -> None:
    rows = [
        Row("Mars is red. Its moons are small!  ", "Mars is red. Phobos, e.g. this moon, falls."),
        Row("No."),
    ]
    found = [row.texts for row in sentences(rows)]
    assert found == [("Mars is red.",), ("Its moons are small!",), ("Phobos, e.g. this moon, falls.",)]


def test_versions_are_other_texts_of_words_that_were_seen() -> None:
    found = list(with_variants(lambda: ROWS, 2))
    assert [row.query for row in found] == TEXTS
    for row in found:
        assert len({*row.texts}) == 3
        for text in row.texts[1:]:
            ours, theirs = row.query.lower().split(), text.lower().split()
            assert abs(len(ours) - len(theirs)) <= 4
            assert len(set(ours) & set(theirs)) >= len(set(ours)) / 2
    assert [row.texts for row in with_variants(lambda: ROWS, 2)] == [row.texts for row in found]
    # A version depends on its text and on the words of all; not on where the text stands.
    turned = {row.query: row.texts for row in with_variants(lambda: ROWS[::-1], 2)}
    assert turned == {row.query: row.texts for row in found}


def test_short_texts_have_no_versions() -> None:
    assert [row.query for row in with_variants(lambda: [*ROWS, Row("hello there!")], 1)] == TEXTS


@pytest.mark.parametrize("change", list(CHANGES), ids=lambda change: change.__name__)
def test_a_change_leaves_most_words(change: Change) -> None:
    followers = seen_after(TEXTS)
    words = ["A", "man", "is", "playing", "a", "flute", "in", "the", "garden", "."]
    drawn = [change(words, followers, random.Random(seed)) for seed in range(30)]
    assert any(each != words for each in drawn)
    for each in drawn:
        assert abs(len(each) - len(words)) <= 1
        assert sum(word in words for word in each) >= len(words) - 2


def test_a_replacement_was_seen_after_the_same_word() -> None:
    followers = seen_after(TEXTS)
    assert {*followers["a"]} == {"man", "guitar", "woman", "flute", "ball"}
    assert {*followers[""]} == {"a", "the", "two"}
    texts = {
        version(["a", "man", "is", "playing", "."], followers, random.Random(seed)) for seed in range(300)
    }
    assert "a woman is playing." in texts
    assert "a man is not playing." in texts


def test_many_followers_are_sampled() -> None:
    followers = seen_after(f"the word{number}" for number in range(500))
    assert len(followers["the"]) == 48
    assert any(int(word[4:]) > 400 for word in followers["the"])


def test_marks_stand_without_a_space() -> None:
    assert joined(["Yes", ",", "he", "(", "too", ")", "sings", "."]) == "Yes, he (too) sings."


def test_sources_ask_for_sentences_and_versions(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    pair = {"query": " ".join(TEXTS[:2]), "positive": " ".join(TEXTS[2:])}
    path.write_text(json.dumps(pair) + "\n")
    table = build_table("t", Source(path=path, sentences=True), tmp_path / "data", lambda _: None)
    assert list(table.texts("query")) == TEXTS
    both = build_table("t", Source(path=path, sentences=True, variants=2), tmp_path / "data", lambda _: None)
    assert both.columns == ("query", "positive", "negative")
    assert both.path != table.path
    assert list(both.texts("query")) == TEXTS
    with pytest.raises(InputError, match="only texts"):
        list(source_rows(Source(path=path, variants=1)))
    with pytest.raises(InputError, match="variants"):
        list(source_rows(Source(path=path, sentences=True, variants=3)))
