"""A model file and an index for LlamaIndex: an embedding, and a retriever of passages.

Needs the package llama-index-core: ``pip install 'edge-embed[llama-index]'``.
"""

from __future__ import annotations

from typing import Any

from edge_embed import Embedder, Index
from edge_embed.extras import needs_extra
from edge_embed.integrations.model import Model, open_model, saved_options
from edge_embed.retrieval import Hit

with needs_extra("llama-index", "the adapter for LlamaIndex"):
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.schema import (
        NodeRelationship,
        NodeWithScore,
        QueryBundle,
        RelatedNodeInfo,
        TextNode,
    )

BATCH = 256
"""Texts of one call, unless the caller says otherwise: enough to keep all threads busy."""


class EdgeEmbedEmbedding(BaseEmbedding):
    """A model file as LlamaIndex's embedding. Queries and texts get the model's own prompts for them.

    Args:
        model: The model file, or an `Embedder`.
        truncate_dim: Option of `Embedder`.
        overflow: Option of `Embedder`.
        num_threads: Option of `Embedder`.
        fields: Fields of LlamaIndex's `BaseEmbedding`.

    Attributes:
        model: The path of the model file.
        truncate_dim: How many dimensions of each vector are kept; None for all.
        overflow: What happens to a text that is too long.
    """

    model: str
    truncate_dim: int | None = None
    overflow: str = "truncate"
    _embedder: Embedder = PrivateAttr()

    def __init__(
        self,
        model: Model,
        *,
        truncate_dim: int | None = None,
        overflow: str | None = None,
        num_threads: int | None = None,
        **fields: Any,
    ) -> None:
        if isinstance(model, Embedder):  # it has these already
            embedder = open_model(model, num_threads=num_threads)
        else:
            embedder = open_model(
                model, truncate_dim=truncate_dim, overflow=overflow, num_threads=num_threads
            )
        fields.setdefault("embed_batch_size", BATCH)
        fields["model_name"] = embedder.manifest.name
        super().__init__(**saved_options(embedder), **fields)
        self._embedder = embedder

    @classmethod
    def class_name(cls) -> str:
        """Returns the name under which LlamaIndex saves this class."""
        return "EdgeEmbedEmbedding"

    @property
    def embedder(self) -> Embedder:
        """The model."""
        return self._embedder

    def _get_query_embedding(self, query: str) -> list[float]:
        return [*map(float, self._embedder.encode_query(query, show_progress_bar=False))]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors = self._embedder.encode_document(texts, show_progress_bar=False)
        return [[*map(float, vector)] for vector in vectors]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        import asyncio  # slow to import

        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        import asyncio  # slow to import

        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        import asyncio  # slow to import

        return await asyncio.to_thread(self._get_text_embeddings, texts)


class EdgeEmbedRetriever(BaseRetriever):
    """Finds passages of the documents in an index, by meaning and by words.

    A passage is a node with its place in the document's text, and with the document as its source.

    Args:
        index: The index.
        similarity_top_k: How many passages at most.
        search_options: More options of `Index.search`.
    """

    def __init__(self, index: Index, similarity_top_k: int = 4, **search_options: Any) -> None:
        super().__init__()
        self._index, self._count, self._options = index, similarity_top_k, search_options

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = self._index.search(query_bundle.query_str, self._count, **self._options)
        return [_node(hit) for hit in hits]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        hits = await self._index.asearch(query_bundle.query_str, self._count, **self._options)
        return [_node(hit) for hit in hits]


def _node(hit: Hit) -> NodeWithScore:
    node = TextNode(
        id_=f"{hit.document_id}#{hit.chunk}",
        text=hit.text,
        metadata=dict(hit.metadata),
        start_char_idx=hit.start,
        end_char_idx=hit.end,
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=hit.document_id)},
    )
    return NodeWithScore(node=node, score=hit.score)
