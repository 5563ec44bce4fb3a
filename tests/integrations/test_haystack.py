"""Haystack's own tests of document stores, and the embedders and the retriever in pipelines."""

from __future__ import annotations

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.components.writers import DocumentWriter
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.testing.document_store import CountDocumentsByFilterTest, DocumentStoreBaseExtendedTests

from edge_embed.errors import InputError
from edge_embed.integrations.haystack import (
    EdgeEmbedDocumentEmbedder,
    EdgeEmbedDocumentStore,
    EdgeEmbedRetriever,
    EdgeEmbedTextEmbedder,
)


class TestDocumentStore(DocumentStoreBaseExtendedTests, CountDocumentsByFilterTest):
    @pytest.fixture
    def document_store(self, tmp_path, embedder):
        store = EdgeEmbedDocumentStore(tmp_path / "a.db", embedder)
        yield store
        store.index.close()

    @staticmethod
    def assert_documents_are_equal(received, expected):
        """The store embeds documents itself: vectors that they bring along are not kept."""
        assert received == [
            Document(id=document.id, content=document.content, meta=document.meta) for document in expected
        ]

    def test_write_documents(self, document_store):
        document = Document(content="test doc")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([document])
        twice = [Document(id="x", content="one"), Document(id="x", content="two")]
        assert document_store.write_documents(twice, DuplicatePolicy.OVERWRITE) == 1
        assert document_store.filter_documents()[-1].content == "two"

    # Of stores that can make their index anew while they empty it.
    test_delete_all_documents_without_recreate_index = None
    test_delete_all_documents_with_recreate_index = None


def test_embedders_use_their_prompts_and_titles(embedder, texts):
    documents = [Document(content=text, meta={"title": f"number {n}"}) for n, text in enumerate(texts)]
    embedded = EdgeEmbedDocumentEmbedder(embedder).run(documents=documents)["documents"]
    expected = embedder.encode_document(texts, titles=[f"number {n}" for n in range(len(texts))])
    np.testing.assert_array_equal(np.array([d.embedding for d in embedded], np.float32), expected)
    assert all(document.embedding is None for document in documents)
    query = EdgeEmbedTextEmbedder(embedder).run(text=texts[0])["embedding"]
    np.testing.assert_array_equal(np.array(query, np.float32), embedder.encode_query(texts[0]))
    with pytest.raises(InputError, match="one string"):
        EdgeEmbedTextEmbedder(embedder).run(text=texts)
    with pytest.raises(InputError, match="no text"):
        EdgeEmbedDocumentEmbedder(embedder).run(documents=[Document(content=None)])


def test_a_pipeline_is_saved_and_opened_again(tmp_path, tiny_model):
    store = EdgeEmbedDocumentStore(tmp_path / "a.db", tiny_model)
    indexing = Pipeline()
    indexing.add_component("writer", DocumentWriter(store))
    hills = "old green hills. " * 40
    documents = [
        Document(id="a", content="the red planet mars", meta={"lang": "en", "n": 1}),
        Document(id="b", content=hills, meta={"lang": "en", "n": 2}),
        Document(id="c", content="water and stone", meta={"lang": "de", "n": 3}),
    ]
    assert indexing.run({"writer": {"documents": documents}}) == {"writer": {"documents_written": 3}}
    asking = Pipeline()
    asking.add_component("retriever", EdgeEmbedRetriever(store, top_k=3))
    asking.add_component("embedder", EdgeEmbedTextEmbedder(tiny_model, truncate_dim=4))
    store.index.close()
    asking = Pipeline.loads(asking.dumps(), allowed_modules=["edge_embed.integrations.haystack"])
    data = {"retriever": {"query": "green hills"}, "embedder": {"text": "green hills"}}
    answer = asking.run(data)
    assert len(answer["embedder"]["embedding"]) == 4
    passages = answer["retriever"]["documents"]
    assert len(passages) == 3
    own = [passage for passage in passages if passage.meta["source_id"] == "b"]
    assert own
    for passage in own:
        start = passage.meta["split_idx_start"]
        assert hills[start : start + len(passage.content)] == passage.content


@pytest.mark.parametrize(
    ("filters", "allowed"),
    [
        ({"field": "meta.n", "operator": "==", "value": 7}, {"7"}),
        ({"field": "meta.n", "operator": ">=", "value": 17}, {"17", "18", "19"}),
        ({"field": "meta.lang", "operator": "!=", "value": "en"}, {str(n) for n in range(0, 20, 2)}),
        (
            {
                "operator": "AND",
                "conditions": [
                    {"field": "meta.lang", "operator": "==", "value": "en"},
                    {"field": "meta.n", "operator": "in", "value": [1, 2, 3]},
                ],
            },
            {"1", "3"},
        ),
        ({"field": "meta.n", "operator": "==", "value": 99}, set()),
    ],
)
def test_filters_apply_before_the_best_are_taken(tmp_path, embedder, filters, allowed):
    store = EdgeEmbedDocumentStore(tmp_path / "a.db", embedder)
    store.write_documents(
        [
            Document(id=str(n), content=f"water {n}", meta={"n": n, "lang": "en" if n % 2 else "de"})
            for n in range(20)
        ]
    )
    retriever = EdgeEmbedRetriever(store, top_k=3, search_options={"mode": "vector"})
    found = [d.meta["source_id"] for d in retriever.run("water", filters=filters)["documents"]]
    assert set(found) <= allowed
    assert len(found) == min(3, len(allowed))
    store.index.close()
