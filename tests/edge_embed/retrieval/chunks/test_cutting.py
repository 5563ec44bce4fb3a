"""Chunks: spans, sizes and overlap hold for any text; borders are those of the text."""

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_embed.errors import InputError
from edge_embed.retrieval.chunks import KINDS, TokenCounter, cut

SCRIPTS = (
    "The red planet is called Mars. Dr. Smith saw it at 3.14 p.m. on Jan. 5, e.g. with a telescope! Why?\n\n",
    "# Heading\n\nA paragraph.\n\n## Below it\n\n- one\n- two\n\n```python\nx = 1\n\ny = 2\n```\n",
    "Title\n=====\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
    "火星是红色的。为什么？因为它生锈了！它有两个卫星，很小。",
    "हरा ग्रह कहाँ है। यह यहाँ है॥ ",
    "هل الكوكب أحمر؟ نعم۔ ",
    "def f(x):\n    return x\n\n\nclass A:\n    @property\n    def g(self):\n        pass\n",
    "e\u0301" * 20,
    "😀" * 9,
    "word" * 40,
    " \t\r\n\f\u2029",
)


def letters(text):
    """Every three characters of a word are a token, as a tokenizer without merges over words has it."""
    return sum((len(word) + 2) // 3 for word in text.split())


def joining(text):
    """One token for two characters, spaces too: the sum of the parts may be more or less than the whole."""
    return (len(text) + 1) // 2


def greedy(text):
    """More tokens for a whole than for its parts."""
    return letters(text) + len(text) // 50


@given(
    text=st.lists(st.one_of(st.sampled_from(SCRIPTS), st.text(max_size=40)), max_size=12).map("".join),
    kind=st.sampled_from(KINDS),
    size=st.integers(8, 60),
    share=st.integers(2, 9),
    count=st.sampled_from([letters, joining, greedy]),
)
@settings(max_examples=150, deadline=None)
def test_chunks_are_ordered_cover_the_text_and_keep_to_the_size(text, kind, size, share, count):
    overlap = size // share
    chunks = cut(text, count=count, size=size, overlap=overlap, kind=kind)
    covered = [False] * len(text)
    for chunk in chunks:
        part = text[chunk.start : chunk.end]
        assert part
        assert part == part.strip()
        assert chunk.tokens == count(part) <= size
        covered[chunk.start : chunk.end] = [True] * len(part)
    assert all(seen or letter.isspace() for seen, letter in zip(covered, text, strict=True))
    for before, after in pairwise(chunks):
        assert before.start < after.start
        assert before.end < after.end
        assert count(text[after.start : before.end]) <= overlap


@given(st.integers(0, 20), st.integers(40, 90))
@settings(max_examples=40, deadline=None)
def test_the_overlap_is_what_was_asked_for(overlap, size):
    text = " ".join(f"word{i} stands in sentence {i // 9}." for i in range(300))
    chunks = cut(text, count=letters, size=size, overlap=overlap)
    shared = [letters(text[b.start : a.end]) for a, b in pairwise(chunks)]
    assert all(tokens <= overlap for tokens in shared)
    if overlap >= 6:
        assert min(shared) * 2 >= overlap - 6
    else:
        assert overlap or not any(shared)


def test_a_text_that_fits_is_one_chunk():
    assert [(c.start, c.end) for c in cut("  Mars is red.  ", count=letters, size=8)] == [(2, 14)]
    assert cut(" \n\t", count=letters, size=8) == []
    assert cut("", count=letters, size=8) == []


def test_sentences_stay_whole_where_they_fit():
    text = "Mars is red. It has two moons. They are small. Nobody lives there yet."
    parts = [text[c.start : c.end] for c in cut(text, count=letters, size=9)]
    assert parts == ["Mars is red.", "It has two moons.", "They are small.", "Nobody lives there yet."]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("火星是红色的。为什么？因为它生锈了！", ["火星是红色的。", "为什么？", "因为它生锈了！"]),
        ("هل الكوكب أحمر؟ نعم هو أحمر۔ شكرا", ["هل الكوكب أحمر؟", "نعم هو أحمر۔", "شكرا"]),
        ("ग्रह लाल है। क्यों यह है॥ जंग से", ["ग्रह लाल है।", "क्यों यह है॥", "जंग से"]),
        (
            '"Is it red?" she asked. He said "Yes." Then',
            ['"Is it red?" she asked.', 'He said "Yes."', "Then"],
        ),
        (
            "See Dr. J. Smith, e.g. at 3.14 p.m. today. Or not.",
            ["See Dr. J. Smith, e.g. at 3.14 p.m. today.", "Or not."],
        ),
        ("Am 3. Mai, d.h. bald. Nr. 5 lebt.", ["Am 3. Mai, d.h. bald.", "Nr. 5 lebt."]),
        (
            "It ended in 1984. Then came more...\nAnd so on",
            ["It ended in 1984.", "Then came more...", "And so on"],
        ),
        ("To buy:\n- apples\n- pears\n2. bread", ["To buy:", "- apples", "- pears", "2. bread"]),
    ],
)
def test_sentence_borders(text, parts):
    from edge_embed.retrieval.chunks.sentences import sentence_starts

    starts = [0, *sentence_starts(text, 0, len(text)), len(text)]
    assert [text[a:b].strip() for a, b in pairwise(starts)] == parts


def test_headings_end_a_chunk_and_name_it():
    body = "Some words that fill the section well enough to stand alone. " * 2
    text = f"# Mars\n\n{body}\n\n## Moons of *Mars* ##\n\n{body}\n\nOther\n-----\n\n{body}\n\n"
    text += "```\n# no heading\n```\n"
    chunks = cut(text, count=letters, size=60, kind="markdown")
    assert [c.headings for c in chunks] == [("Mars",), ("Mars", "Moons of Mars"), ("Mars", "Other")]
    assert text[chunks[1].start :].startswith("## Moons")
    assert text[: chunks[-1].end].endswith("# no heading\n```")


def test_small_sections_share_a_chunk_under_the_heading_they_have_in_common():
    text = "## Hammer\n\nHits.\n\n## Saw\n\nCuts.\n\n# Tools\n\n## Nail\n\nHolds.\n\n## Screw\n\nTurns.\n"
    chunks = cut(text, count=letters, size=90, kind="markdown")
    assert [(c.headings, text[c.start : c.end][:7]) for c in chunks] == [
        ((), "## Hamm"),
        (("Tools",), "# Tools"),
    ]


def test_no_chunk_ends_with_a_heading():
    text = "# A\n\n" + "One two three four five. " * 3 + "\n\n## B\n\n" + "Six seven eight nine ten. " * 8
    for size in range(20, 60):
        for chunk in cut(text, count=letters, size=size, kind="markdown"):
            assert not text[chunk.start : chunk.end].endswith("## B")


def test_front_matter_is_no_heading():
    text = "---\ntitle: x\n---\n\nBody.\n\n---\n\nMore."
    assert {c.headings for c in cut(text, count=letters, size=8, kind="markdown")} == {()}
    assert cut("---\nnever closed\n\n# Heading\n\nBody.", count=letters, size=20, kind="markdown")[
        -1
    ].headings == ("Heading",)


def test_source_code_is_cut_at_definitions_with_what_stands_above_them():
    text = (
        "import os\n\nLIMIT = 3\n\n\n"
        "class Box:\n    '''Holds things in it.'''\n\n"
        "    # Opens it.\n    @property\n    def lid(self):\n        return self.cover, self.hinge\n\n\n"
        "def free(thing):\n    thing.go_away_at_once()\n"
    )
    chunks = cut(text, count=letters, size=36, kind="code")
    found = {c.headings: text[c.start : c.end] for c in chunks}
    assert found[("Box", "lid")].startswith("# Opens it.")
    assert found[("free",)].startswith("def free")
    assert () in found


def test_one_endless_word_and_one_endless_line_are_cut():
    for text in ("x" * 5000, "word " * 2000, "红色" * 2000):
        chunks = cut(text, count=letters, size=50, overlap=10)
        assert max(c.tokens for c in chunks) <= 50
        assert min(c.tokens for c in chunks[:-1]) >= 20


def test_a_counter_that_knows_words_to_be_independent_gives_the_same_chunks():
    text = "".join(SCRIPTS[:5]) * 5
    fast = TokenCounter(letters, joins_words=False)
    assert cut(text, count=fast, size=20, overlap=4) == cut(text, count=letters, size=20, overlap=4)


def test_the_tokenizer_reads_a_text_about_once():
    read = 0

    def count(text):
        nonlocal read
        read += len(text)
        return letters(text)

    text = "The red planet has rusted, and its dust is blown about by storms. " * 3000
    started = time.process_time()
    cut(text, count=count, size=100, overlap=12)
    assert read < 2 * len(text)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 7}, "too small"),
        ({"size": 20, "overlap": 11}, "0 to 10"),
        ({"size": 20, "overlap": -1}, "0 to 10"),
        ({"size": 20, "kind": "pdf"}, "text, markdown, code"),
    ],
)
def test_options_that_cannot_be_used(options, message):
    with pytest.raises(InputError, match=message):
        cut("Mars is red.", count=letters, **options)
