"""Passages for a generator: numbered, joined, each text once, never more tokens than asked for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_embed import Index
from edge_embed.errors import InputError
from edge_embed.retrieval.context import build_context
from edge_embed.retrieval.types import Document, Hit

TEXT = "One two three.\n\nFour five six. Seven eight.\n\nNine ten eleven twelve."


class Documents(dict):
    """What of an index the passages are made of."""


def hit(document, start, end, score=1.0, headings=()):
    return Hit(
        document.id,
        0,
        document.text[start:end],
        start,
        end,
        document.title,
        headings,
        {},
        score,
        score,
        None,
        "",
    )


def words(text):
    return len(text.split())


@pytest.fixture
def first():
    return Document("a.md", TEXT, "Numbers")


@pytest.fixture
def second():
    return Document("b.md", TEXT, "Copy")


def test_passages_are_numbered_and_carry_their_sources(first, second):
    hits = [hit(second, 45, 69), hit(first, 0, 14, headings=("Numbers", "Small"))]
    context = build_context(Documents({"a.md": first, "b.md": second}), hits, 100, words)
    assert str(context) == (
        "[1] Copy (b.md)\nNine ten eleven twelve.\n\n[2] Numbers > Small (a.md)\nOne two three."
    )
    assert [(p.number, p.document_id) for p in context.passages] == [(1, "b.md"), (2, "a.md")]
    assert context.tokens == words(context.text)


def test_neighbours_are_joined_and_copies_left_out(first, second):
    documents = Documents({"a.md": first, "b.md": second})
    hits = [
        hit(first, 16, 30),
        hit(second, 16, 30),
        hit(first, 45, 69),
        hit(first, 25, 43),
        hit(first, 16, 20),
    ]
    context = build_context(documents, hits, 100, words)
    (passage,) = context.passages
    assert (passage.start, passage.end, passage.text) == (16, 69, TEXT[16:69].rstrip())


def test_two_passages_become_one_when_what_lay_between_is_found(first):
    hits = [hit(first, 0, 14), hit(first, 45, 69), hit(first, 16, 43)]
    context = build_context(Documents({"a.md": first}), hits, 100, words)
    assert [(p.number, p.text) for p in context.passages] == [(1, TEXT)]


def test_what_does_not_fit_is_passed_over_and_the_first_is_cut(first, second):
    documents = Documents({"a.md": first, "b.md": second})
    context = build_context(
        documents, [hit(first, 0, 14), hit(second, 16, 69), hit(second, 45, 50)], 12, words
    )
    assert [p.text for p in context.passages] == ["One two three.", "Nine "]
    context = build_context(documents, [hit(first, 0, len(TEXT))], 12, words)
    assert context.passages[0].text == "One two three.\n\nFour five six. Seven eight."
    assert context.tokens <= 12
    assert build_context(documents, [hit(first, 0, len(TEXT))], 3, words).passages == ()


def test_a_document_that_was_deleted_since_is_left_out(first):
    context = build_context(Documents(), [hit(first, 0, 14), hit(first, 10, 30)], 100, words)
    assert [p.text for p in context.passages] == ["One two three."]


@given(
    spans=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30), st.booleans()), max_size=8),
    budget=st.integers(1, 60),
)
@settings(deadline=None)
def test_the_budget_holds_and_every_passage_is_its_span(spans, budget):
    documents = Documents({"a": Document("a", TEXT, "A"), "b": Document("b", TEXT[::-1], "B")})
    hits = [hit(documents["ab"[which]], s, min(s + n, len(TEXT))) for s, n, which in spans]
    context = build_context(documents, hits, budget, words)
    assert context.tokens == words(context.text) <= budget
    assert [p.number for p in context.passages] == list(range(1, len(context.passages) + 1))
    for passage in context.passages:
        assert documents[passage.document_id].text[passage.start : passage.end] == passage.text


def test_context_of_an_index(planets):
    context = planets.context("red planet", 40)
    assert "[1] Mars (mars)\nMars is the red planet." in context.text
    assert planets.context("red planet", 40, where={"lang": "de"}).passages[0].document_id == "erde"
    assert planets.context("", 40).text == ""
    with pytest.raises(InputError):
        planets.context("red planet", 0)


def test_the_model_file_is_found_beside_the_index(tmp_path, stub):
    model = tmp_path / "models" / "m.tflite"
    model.parent.mkdir()
    model.write_bytes(b"x")
    stub.path = model
    with Index.open(tmp_path / "notes.db", stub) as index:
        assert index.stats().model_path == "models/m.tflite"
    stub.path = tmp_path.parent / "m.tflite"
    with Index.open(tmp_path / "notes.db", stub) as index:
        index.add([{"id": "a", "text": "x"}])
        assert index.stats().model_path == str((tmp_path.parent / "m.tflite").resolve())
