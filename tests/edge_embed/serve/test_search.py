"""`/search` and the page over a real index."""

from __future__ import annotations

import pytest

from edge_embed import Embedder, Index
from edge_embed.serve.app import create_app

from .conftest import serving

NOTES = [
    {
        "id": "mars.md",
        "text": "Mars is known as the red planet. <b>bold</b>",
        "title": "Planets",
        "metadata": {"n": 1},
    },
    {"id": "water.md", "text": "Water and stone, and a river that sings.", "metadata": {"n": 2}},
]


@pytest.fixture(scope="module")
def client(tiny_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "notes.db"
    embedder = Embedder(tiny_model, weight_cache="memory", num_threads=1)
    with Index.open(path, embedder) as index:
        index.add(NOTES)
    with serving(create_app(embedder, index=Index.open(path, embedder))) as client:
        yield client


def test_hits_carry_their_source_and_marks(client):
    status, answer, _ = client.post("/search", {"query": "red planet", "mode": "text"})
    assert status == 200
    hit = answer["hits"][0]
    assert (hit["document_id"], hit["title"]) == ("mars.md", "Planets")
    assert NOTES[0]["text"][hit["start"] : hit["end"]] == hit["text"]
    opening, closing = answer["marks"]
    assert f"{opening}red{closing}" in hit["snippet"]


@pytest.mark.parametrize("mode", ["vector", "text", "hybrid"])
def test_modes_and_filters(client, mode):
    _, answer, _ = client.post("/search", {"query": "planet river", "mode": mode, "where": {"n": 2}})
    assert [hit["document_id"] for hit in answer["hits"]] == ["water.md"]
    assert client.post("/search", {"query": "  "})[1]["hits"] == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "query"),
        ({"query": 3}, "query"),
        ({"query": "a" * 8001}, "query"),
        ({"query": "a", "k": 0}, "k"),
        ({"query": "a", "k": 101}, "k"),
        ({"query": "a", "min_score": 10**400}, "query"),
        ({"query": "a", "mode": "fuzzy"}, "mode"),
        ({"query": "a", "where": [1]}, "where"),
        ({"query": "a", "where": {"n": {"near": 3}}}, "where"),
        ({"query": "", "where": {"n": {"near": 3}}}, "where"),
        ({"query": "a", "min_score": "x"}, "min_score"),
        ({"query": "a", "per_document": 1}, "per_document"),
        ({"query": "a", "nonsense": 1}, "nonsense"),
    ],
)
def test_bad_fields_are_named(client, body, param):
    status, answer, _ = client.post("/search", body)
    assert (status, answer["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "query", ['"', "a OR", "NEAR(", "*", "red AND (", "^", "'; DROP TABLE chunks; --", "\0"]
)
def test_a_query_is_never_syntax(client, query):
    assert client.post("/search", {"query": query})[0] == 200


def test_the_page_loads_nothing_from_elsewhere(client):
    status, page, headers = client.get("/")
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    for path in ("/page.js", "/page.css"):
        status, content, _ = client.get(path)
        assert status == 200
        assert "http://" not in content
        assert "https://" not in content
    assert "http" not in page
    script = client.get("/page.js")[1]
    assert "innerHTML" not in script
    assert "insertAdjacentHTML" not in script
