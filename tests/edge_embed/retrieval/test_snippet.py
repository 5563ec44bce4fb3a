"""Snippets."""

from __future__ import annotations

from edge_embed.retrieval.search.lexical import terms_of
from edge_embed.retrieval.search.snippet import snippet


def test_words_are_marked_whole_and_without_regard_to_case_and_diacritics():
    assert snippet("The Red planet, redder than red.", ["red"]) == "The **Red** planet, redder than **red**."
    assert snippet("Ein Glas Äpfel und Apfelsaft", terms_of("apfel ÄPFEL", "words")) == (
        "Ein Glas **Äpfel** und Apfelsaft"
    )


def test_the_window_holds_the_most_terms():
    text = "alpha " + "filler " * 60 + "beta gamma near each other " + "filler " * 60
    made = snippet(text, ["alpha", "beta", "gamma"], length=60)
    assert "**beta** **gamma**" in made
    assert made.startswith("…")
    assert made.endswith("…")
    assert len(made) < 60 + 10 + 8


def test_trigrams_are_found_inside_words_and_joined():
    assert snippet("火星是红色的行星", terms_of("红色的行", "trigrams"), inside_words=True) == (
        "火星是**红色的行**星"
    )


def test_marks_and_white_space():
    assert snippet("a\n\n  b", ["b"], marks=("<b>", "</b>")) == "a <b>b</b>"
    assert snippet("", ["b"]) == ""
    assert snippet("no term here", []) == "no term here"


def test_letters_that_fold_to_more_than_one():
    assert snippet("STRAẞE fin", terms_of("FIN", "words")) == "STRAẞE **fin**"
    assert snippet("İstanbul red", ["red"]) == "İstanbul **red**"
