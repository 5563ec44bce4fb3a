"""LlamaIndex's embedding and retriever, in its own vector index too."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.schema import NodeRelationship

from edge_embed import Index
from edge_embed.integrations.llama_index import EdgeEmbedEmbedding, EdgeEmbedRetriever


@pytest.fixture(scope="module")
def embedding(embedder):
    return EdgeEmbedEmbedding(embedder)


def test_queries_and_texts_get_their_own_prompts(embedding, embedder, texts):
    got = np.array(embedding.get_text_embedding_batch(texts), np.float32)
    np.testing.assert_array_equal(got, embedder.encode_document(texts))
    np.testing.assert_array_equal(np.array(embedding.get_text_embedding(texts[0]), np.float32), got[0])
    query = np.array(embedding.get_query_embedding(texts[0]), np.float32)
    np.testing.assert_array_equal(query, embedder.encode_query(texts[0]))
    assert not np.array_equal(query, got[0])


def test_async_gives_the_same(embedding, texts):
    async def ask():
        return (
            await embedding.aget_query_embedding(texts[0]),
            await embedding.aget_text_embedding(texts[0]),
            await embedding.aget_text_embedding_batch(texts),
        )

    query, text, batch = asyncio.run(ask())
    assert query == embedding.get_query_embedding(texts[0])
    assert text == embedding.get_text_embedding(texts[0])
    assert batch == embedding.get_text_embedding_batch(texts)


def test_it_is_saved_and_opened_again(tiny_model, texts):
    first = EdgeEmbedEmbedding(tiny_model, truncate_dim=4, overflow="mean")
    second = EdgeEmbedEmbedding.from_dict(first.to_dict())
    assert second.to_dict() == first.to_dict()
    assert second.embedder.overflow == "mean"
    assert second.get_text_embedding(texts[0]) == first.get_text_embedding(texts[0])
    assert len(second.get_query_embedding("a")) == 4
    assert first.model_name == "tiny"


def test_in_a_vector_index_of_llama_index(embedding, embedder, texts):
    documents = [Document(text=text, id_=str(place)) for place, text in enumerate(texts)]
    index = VectorStoreIndex.from_documents(documents, embed_model=embedding)
    best = index.as_retriever(similarity_top_k=1).retrieve("red planet")[0]
    scores = embedder.similarity(embedder.encode_query("red planet"), embedder.encode_document(texts))[0]
    assert best.node.text == texts[int(scores.argmax())]
    assert best.score == pytest.approx(scores.max(), abs=1e-5)


def test_retriever_gives_passages_with_their_places(tmp_path, embedder):
    text = "seven small birds fly home. " * 40
    with Index.open(tmp_path / "a.db", embedder) as index:
        index.add([{"id": "a", "text": text, "metadata": {"lang": "en"}}, {"id": "b", "text": "water"}])
        retriever = EdgeEmbedRetriever(index, 5, where={"lang": "en"})
        found = retriever.retrieve("birds")
        assert 1 < len(found) <= 5
        for each in found:
            assert text[each.node.start_char_idx : each.node.end_char_idx] == each.node.text
            assert each.node.metadata == {"lang": "en"}
            assert each.node.relationships[NodeRelationship.SOURCE].node_id == "a"
        again = asyncio.run(retriever.aretrieve("birds"))
        assert [each.node.id_ for each in again] == [each.node.id_ for each in found]
