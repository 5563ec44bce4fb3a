"""Sizes that fit a model, and titles that fit beside a chunk."""

from types import SimpleNamespace

import pytest

from edge_embed.errors import InputError
from edge_embed.retrieval.chunks import Sizes, chunk_title, sizes_for


def manifest(max_tokens):
    """Four words of prompt and two special tokens."""
    return SimpleNamespace(
        name="tiny",
        max_tokens=max_tokens,
        prompts={"document": "title: none | text: "},
        default_prompt_name=None,
        tokenizer=SimpleNamespace(prefix_ids=[2], suffix_ids=[3]),
    )


def words(text):
    return len(text.split())


def test_prompt_special_tokens_and_title_are_counted():
    long = manifest(256)
    sizes = sizes_for(long, words)  # 256 without [CLS], [SEP] and "title: none | text: "
    assert sizes == Sizes(size=250 - 31, overlap=219 // 8, title=31)
    assert sizes_for(manifest(8192), words) == Sizes(512, 64, 32)


def test_sizes_may_be_chosen():
    long = manifest(256)
    assert sizes_for(long, words, size=100, overlap=0) == Sizes(100, 0, 31)
    assert sizes_for(long, words, size=244).title == 6
    with pytest.raises(InputError, match="at most 250"):
        sizes_for(long, words, size=251)
    with pytest.raises(InputError, match="half of the size"):
        sizes_for(long, words, size=100, overlap=80)
    with pytest.raises(InputError, match="too few tokens"):
        sizes_for(manifest(10), words)


@pytest.mark.parametrize(
    ("title", "headings", "limit", "expected"),
    [
        ("Notes", ("Bread", "Dough"), 9, "Notes > Bread > Dough"),
        ("Notes", ("Bread", "Dough"), 3, "Notes > Dough"),
        ("Notes", ("Bread", "Sour dough"), 3, "Sour dough"),
        ("Bread", ("bread", "Dough"), 9, "bread > Dough"),
        (None, (), 9, None),
        ("  ", ("",), 9, None),
        ("one two three four", (), 2, "one two"),
        ("Notes", ("Bread",), 0, None),
        ("word " * 100_000, (), 4, "word word word word"),
    ],
)
def test_titles_are_shortened_from_the_middle(title, headings, limit, expected):
    assert chunk_title(title, headings, count=words, limit=limit) == expected
