"""The embedding function in a real Chroma collection on disk."""

from __future__ import annotations

import shutil

import chromadb
import numpy as np
import pytest

from edge_embed.errors import InputError
from edge_embed.integrations.chroma import EdgeEmbedEmbeddingFunction


@pytest.fixture
def client(tmp_path):
    return chromadb.PersistentClient(str(tmp_path / "chroma"))


def test_queries_and_documents_get_their_own_prompts(embedder, texts):
    function = EdgeEmbedEmbeddingFunction(embedder)
    np.testing.assert_array_equal(np.array(function(texts)), embedder.encode_document(texts))
    np.testing.assert_array_equal(np.array(function.embed_query(texts)), embedder.encode_query(texts))


def test_a_collection_ranks_by_the_cosine_of_query_and_document(client, embedder, texts):
    collection = client.create_collection("notes", embedding_function=EdgeEmbedEmbeddingFunction(embedder))
    collection.add(ids=[str(n) for n in range(len(texts))], documents=texts)
    assert collection.configuration["hnsw"]["space"] == "cosine"
    answer = collection.query(query_texts=["red planet"], n_results=len(texts))
    scores = embedder.similarity(embedder.encode_query("red planet"), embedder.encode_document(texts))[0]
    assert [int(name) for name in answer["ids"][0]] == [*np.argsort(-scores)]
    np.testing.assert_allclose(answer["distances"][0], 1 - np.sort(scores)[::-1], atol=1e-5)


def test_a_collection_opens_its_model_again_and_refuses_another(tmp_path, tiny_model, texts, build_model):
    path = tmp_path / "model.tflite"
    shutil.copyfile(tiny_model, path)
    first = chromadb.PersistentClient(str(tmp_path / "chroma"))
    function = EdgeEmbedEmbeddingFunction(path, truncate_dim=4)
    first.create_collection("notes", embedding_function=function).add(ids=["0"], documents=texts[:1])
    collection = chromadb.PersistentClient(str(tmp_path / "chroma")).get_collection("notes")
    assert collection.query(query_texts=["planet"], n_results=1)["ids"] == [["0"]]
    assert len(collection.get(include=["embeddings"])["embeddings"][0]) == 4
    config = function.get_config()
    with pytest.raises(InputError, match="not the model"):
        EdgeEmbedEmbeddingFunction.build_from_config({**config, "graph": "0" * 64})
    with pytest.raises(InputError, match="change its graph"):
        function.validate_config_update(config, {**config, "graph": "0" * 64})


def test_the_space_follows_the_model(build_model, tmp_path):
    path = build_model(tmp_path / "dot.tflite", similarity="dot")
    assert EdgeEmbedEmbeddingFunction(path, weight_cache="memory").default_space() == "ip"
