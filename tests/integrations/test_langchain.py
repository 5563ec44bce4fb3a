"""LangChain's own tests of embeddings, vector stores and retrievers, and what they do not see."""

from __future__ import annotations

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.unit_tests import EmbeddingsUnitTests

from edge_embed import Embedder, Index
from edge_embed.errors import IndexModelError, InputError
from edge_embed.integrations.langchain import EdgeEmbedEmbeddings, EdgeEmbedRetriever, EdgeEmbedVectorStore


class OurEmbeddings:
    """What LangChain's tests of embeddings ask for."""

    @pytest.fixture(autouse=True)
    def _model(self, tiny_model):
        self.model = tiny_model

    @property
    def embeddings_class(self):
        return EdgeEmbedEmbeddings

    @property
    def embedding_model_params(self):
        return {"model": self.model, "weight_cache": "memory"}


class TestEmbeddingsUnit(OurEmbeddings, EmbeddingsUnitTests):
    pass


class TestEmbeddingsIntegration(OurEmbeddings, EmbeddingsIntegrationTests):
    pass


class TestVectorStore(VectorStoreIntegrationTests):
    """With the embeddings of LangChain's tests."""

    @pytest.fixture
    def vectorstore(self, tmp_path):
        store = EdgeEmbedVectorStore.open(tmp_path / "a.db", self.get_embeddings(), embedding_name="fake-6")
        yield store
        store.index.close()


class TestVectorStoreOverAModelFile(VectorStoreIntegrationTests):
    """With a model file. It has no prompts: LangChain's tests expect a text to be its own best answer."""

    @pytest.fixture
    def vectorstore(self, tmp_path, build_model):
        path = build_model(tmp_path / "plain.tflite", prompts={})
        store = EdgeEmbedVectorStore.open(tmp_path / "b.db", EdgeEmbedEmbeddings(path, weight_cache="memory"))
        yield store
        store.index.close()


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _index(self, tmp_path, embedder, texts):
        with Index.open(tmp_path / "c.db", embedder) as self.index:
            self.index.add([{"id": str(n), "text": text} for n, text in enumerate(texts)])
            yield

    @property
    def retriever_constructor(self):
        return EdgeEmbedRetriever

    @property
    def retriever_constructor_params(self):
        return {"index": self.index}

    @property
    def retriever_query_example(self):
        return "planet"


def test_queries_and_documents_get_their_own_prompts(embedder, texts):
    embeddings = EdgeEmbedEmbeddings(embedder)
    np.testing.assert_array_equal(
        np.array(embeddings.embed_documents(texts), np.float32), embedder.encode_document(texts)
    )
    query = np.array(embeddings.embed_query(texts[0]), np.float32)
    np.testing.assert_array_equal(query, embedder.encode_query(texts[0]))
    assert not np.array_equal(query, embedder.encode_document(texts[0]))
    assert embeddings.embed_documents([]) == []


@pytest.fixture
def store(tmp_path, embedder):
    store = EdgeEmbedVectorStore.from_texts(
        ["the red planet mars", "water and stone", "seven small birds", "old green hills " * 60],
        EdgeEmbedEmbeddings(embedder),
        [{"n": 1, "title": "Mars"}, {"n": 2}, {"n": 3}, {"n": 4}],
        ids=["a", "b", "c", "d"],
        path=tmp_path / "d.db",
    )
    yield store
    store.index.close()


def test_a_long_document_comes_back_whole_and_once(store):
    found = store.similarity_search("old green hills", k=4)
    assert len({document.id for document in found}) == len(found) == 4
    assert max(len(document.page_content) for document in found) == len("old green hills " * 60)
    passages = EdgeEmbedRetriever(index=store.index, k=20).invoke("old green hills")
    own = [passage for passage in passages if passage.metadata["edge_embed"]["document_id"] == "d"]
    assert len(own) > 1
    for passage in own:
        place = passage.metadata["edge_embed"]
        assert store.index.get("d").text[place["start"] : place["end"]] == passage.page_content
        assert passage.metadata["n"] == 4


def test_scores_are_cosines_and_the_title_is_embedded(store, embedder):
    ((document, score),) = store.similarity_search_with_score("red planet", k=1, filter={"n": 1})
    assert document.id == "a"
    expected = embedder.similarity(
        embedder.encode_query("red planet"),
        embedder.encode_document("the red planet mars", titles="Mars"),
    )
    assert score == pytest.approx(expected[0, 0], abs=0.01)  # the index holds int8 vectors
    ((_, relevance),) = store.similarity_search_with_relevance_scores("red planet", k=1, filter={"n": 1})
    assert relevance == pytest.approx(min(max(score, 0), 1))


def test_filters_modes_vectors_and_diversity(store, embedder):
    assert [d.id for d in store.similarity_search("planet", k=4, filter={"n": [2, 3]}) if d.id in "ad"] == []
    assert store.similarity_search("birds", k=1, mode="text")[0].id == "c"
    vector = store.embeddings.embed_query("water")
    assert store.similarity_search_by_vector(vector, k=2) == store.similarity_search("water", k=2)
    assert len(store.max_marginal_relevance_search("water", k=3, lambda_mult=0.2)) == 3
    assert len(store.max_marginal_relevance_search_by_vector(vector, k=3)) == 3
    retriever = store.as_retriever(search_kwargs={"k": 2})
    assert retriever.invoke("water") == store.similarity_search("water", k=2)


def test_an_index_opens_again_and_refuses_another_model(store, tmp_path, tiny_sentencepiece_model):
    with Index.open(tmp_path / "d.db") as index:
        assert len(EdgeEmbedVectorStore(index).similarity_search("water", k=2)) == 2
    with Embedder(tiny_sentencepiece_model, weight_cache="memory") as other, pytest.raises(IndexModelError):
        EdgeEmbedVectorStore.open(tmp_path / "d.db", other)
    fake = DeterministicFakeEmbedding(size=8)
    with pytest.raises(InputError, match="embedding_name"):
        EdgeEmbedVectorStore.open(tmp_path / "e.db", fake)
    EdgeEmbedVectorStore.open(tmp_path / "e.db", fake, embedding_name="one").index.close()
    with pytest.raises(IndexModelError):
        EdgeEmbedVectorStore.open(tmp_path / "e.db", fake, embedding_name="two")


def test_arguments_that_cannot_be_used(store, embedder, tmp_path):
    with pytest.raises(InputError, match="path"):
        EdgeEmbedVectorStore.from_texts(["a"], EdgeEmbedEmbeddings(embedder))
    with pytest.raises(InputError, match="ids"):
        store.delete()
    with pytest.raises(InputError, match="options already"):
        EdgeEmbedEmbeddings(embedder, truncate_dim=4)
    with pytest.raises(InputError, match="cannot be used"):
        EdgeEmbedEmbeddings(3)
    with pytest.raises(InputError):
        store.add_documents([Document(page_content="a", metadata={"x": object()})])


def test_a_store_from_documents(tmp_path, embedder):
    documents = [
        Document(page_content="water", metadata={"a": [1, 2]}),
        Document(page_content="stone", id="s"),
    ]
    store = EdgeEmbedVectorStore.from_documents(
        documents, EdgeEmbedEmbeddings(embedder), path=tmp_path / "f.db"
    )
    found = store.similarity_search("water", k=5)
    assert {document.page_content: document.metadata for document in found} == {
        "water": {"a": [1, 2]},
        "stone": {},
    }
    assert store.get_by_ids(["s"])[0].page_content == "stone"
    store.index.close()
