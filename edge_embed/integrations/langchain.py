"""A model file and an index for LangChain: embeddings, a vector store, and a retriever of passages.

Needs the package langchain-core: ``pip install 'edge-embed[langchain]'``.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_embed import Embedder, Index
from edge_embed.errors import InputError
from edge_embed.extras import needs_extra
from edge_embed.integrations.model import Model, open_model
from edge_embed.retrieval import Document as Stored
from edge_embed.retrieval import Encoder, Hit

with needs_extra("langchain", "the adapter for LangChain"):
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.vectorstores import VectorStore

TITLE = "title"
"""The field of a document's metadata that is its title, unless another is named."""

PASSAGE = "edge_embed"
"""The field of a passage's metadata that says where the passage is."""


class EdgeEmbedEmbeddings(Embeddings):
    """A model file as LangChain's embeddings. Queries and documents get the model's own prompts for them.

    Args:
        model: The model file, or an `Embedder`.
        options: Options of `Embedder`, with a path.
    """

    def __init__(self, model: Model, **options: Any) -> None:
        self.embedder = open_model(model, **options)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Returns the vectors of documents."""
        vectors = self.embedder.encode_document(texts, show_progress_bar=False)
        return [[*map(float, vector)] for vector in vectors]

    def embed_query(self, text: str) -> list[float]:
        """Returns the vector of a query."""
        return [*map(float, self.embedder.encode_query(text, show_progress_bar=False))]


class LangChainEncoder:
    """Any LangChain embeddings as the model of an index.

    Args:
        embeddings: The embeddings.
        name: What names the exact model. An index that was made under another name refuses it.
    """

    def __init__(self, embeddings: Embeddings, name: str) -> None:
        self.embeddings, self._name = embeddings, name
        self._dimension: int | None = None

    def fingerprint(self) -> str:
        """Returns the name that an index keeps."""
        return self._name

    def get_embedding_dimension(self) -> int:
        """Returns the dimension of the vectors, which the embeddings show with a first query."""
        if self._dimension is None:
            self._dimension = len(self.embeddings.embed_query("dimension"))
        return self._dimension

    def encode_query(self, sentences: str, /) -> npt.NDArray[np.float32]:
        """Returns the vector of a query."""
        return np.asarray(self.embeddings.embed_query(sentences), np.float32)

    def encode_document(
        self, sentences: list[str], /, *, titles: Sequence[str | None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Returns the vectors of documents; a title goes before its text."""
        leads = titles or [None] * len(sentences)
        texts = [f"{title}\n{text}" if title else text for title, text in zip(leads, sentences, strict=True)]
        return np.asarray(self.embeddings.embed_documents(texts), np.float32)


class EdgeEmbedVectorStore(VectorStore):
    """An index as LangChain's vector store. A document comes back whole, as it was added.

    Filters are the index's `where`. `EdgeEmbedRetriever` returns passages of documents instead.

    Args:
        index: The index.
        title_field: The field of a document's metadata that is its title.
    """

    def __init__(self, index: Index, *, title_field: str | None = TITLE) -> None:
        self.index = index
        self._title_field = title_field

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        embedding: Embeddings | Model | None = None,
        *,
        embedding_name: str | None = None,
        title_field: str | None = TITLE,
        **options: Any,
    ) -> EdgeEmbedVectorStore:
        """Opens an index file, or makes one where there is none.

        Args:
            path: The index file.
            embedding: `EdgeEmbedEmbeddings`, a model file, an `Embedder`, or other LangChain embeddings;
                None for the model that the index was last opened with.
            embedding_name: Names the exact model of other embeddings, so that the file can refuse another.
            title_field: As for the class.
            options: Options of `Index.open`.
        """
        index = Index.open(path, _encoder(embedding, embedding_name), **options)
        return cls(index, title_field=title_field)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        path: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> EdgeEmbedVectorStore:
        """Adds texts to an index file.

        Args:
            texts: The texts.
            embedding: As for `open`.
            metadatas: Their metadata.
            ids: Their ids; new ones where there is none.
            path: The index file.
            options: As for `open`.

        Raises:
            InputError: If there is no path.
        """
        if path is None:
            raise InputError(
                "an index is a file, and no path was given", fix='from_texts(..., path="notes.db")'
            )
        store = cls.open(path, embedding, **options)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    @property
    def embeddings(self) -> Embeddings:
        """The embeddings of queries and documents."""
        model = self.index.model
        if isinstance(model, LangChainEncoder):
            return model.embeddings
        assert isinstance(model, Embedder)  # all that `_encoder` gives to an index
        return EdgeEmbedEmbeddings(model)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Adds texts and returns their ids. A text under a known id replaces the former one."""
        contents = list(texts)
        records = [{}] * len(contents) if metadatas is None else metadatas
        names = [None] * len(contents) if ids is None else ids
        documents = [
            Document(page_content=text, metadata=metadata, id=name)
            for text, metadata, name in zip(contents, records, names, strict=True)
        ]
        return self.add_documents(documents, **kwargs)

    def add_documents(
        self, documents: list[Document], *, ids: list[str] | None = None, **kwargs: Any
    ) -> list[str]:
        """Adds documents and returns their ids. A document under a known id replaces the former one."""
        names = [document.id for document in documents] if ids is None else ids
        ready = [name or str(uuid.uuid4()) for name in names]
        self.index.add(
            [
                {
                    "id": name,
                    "text": document.page_content,
                    "title": self._title(document.metadata),
                    "metadata": document.metadata,
                }
                for name, document in zip(ready, documents, strict=True)
            ],
            show_progress_bar=False,
        )
        return ready

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool | None:
        """Removes documents by id. Ids that are not there are passed over."""
        if ids is None:
            raise InputError("delete needs ids", fix="store.delete(store.index.ids()) empties the index")
        self.index.delete(ids)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Returns the documents of these ids that are there."""
        found = (self.index.get(name) for name in ids)
        return [_document(stored) for stored in found if stored is not None]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """Returns the documents nearest to a query.

        Args:
            query: The query.
            k: How many at most.
            kwargs: `filter`, a `where` of the index; and options of `Index.search`: `mode="hybrid"` also
                finds by words.
        """
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Returns the documents nearest to a query with their cosines (other scores in other modes)."""
        return self._search(k, query=query, **kwargs)

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, **kwargs: Any
    ) -> list[Document]:
        """Returns the documents nearest to a vector."""
        return [document for document, _ in self._search(k, vector=embedding, **kwargs)]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Returns documents that are near to a query and differ from each other.

        The index chooses by itself how many candidates it looks at, so that `fetch_k` is not used.
        """
        found = self._search(k, query=query, diversity=1 - lambda_mult, **kwargs)
        return [document for document, _ in found]

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> list[Document]:
        """Returns documents that are near to a vector and differ from each other."""
        found = self._search(k, vector=embedding, diversity=1 - lambda_mult, **kwargs)
        return [document for document, _ in found]

    def _select_relevance_score_fn(self) -> Any:
        return lambda cosine: min(max(cosine, 0.0), 1.0)

    def _search(self, k: int, **options: Any) -> list[tuple[Document, float]]:
        options.setdefault("mode", "vector")
        options["where"] = options.pop("filter", options.get("where"))
        hits = self.index.search(k=k, per_document=True, **options)
        found = [(self.index.get(hit.document_id), hit.score) for hit in hits]
        return [(_document(stored), score) for stored, score in found if stored is not None]

    def _title(self, metadata: Mapping[str, Any]) -> str | None:
        title = metadata.get(self._title_field) if self._title_field else None
        return title if isinstance(title, str) else None


class EdgeEmbedRetriever(BaseRetriever):
    """Finds passages of the documents in an index, by meaning and by words.

    A passage's metadata is that of its document, and under "edge_embed" it says where it is: `document_id`,
    `title`, `start` and `end` in characters, and `score`.

    Attributes:
        index: The index.
        k: How many passages at most.
        search_options: More options of `Index.search`.
    """

    index: Any
    k: int = 4
    search_options: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it for each instance

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None, **kwargs: Any
    ) -> list[Document]:
        options = {**self.search_options, **kwargs}
        return [_passage(hit) for hit in self.index.search(query, self.k if k is None else k, **options)]


def _encoder(embedding: Embeddings | Model | None, name: str | None) -> Encoder | None:
    if embedding is None:
        return None
    if isinstance(embedding, EdgeEmbedEmbeddings):
        return embedding.embedder
    if not isinstance(embedding, Embeddings):
        return open_model(embedding)
    if name is None:
        raise InputError(
            "other embeddings need a name, so that the index can tell models apart",
            got=type(embedding).__name__,
            fix='EdgeEmbedVectorStore.open(..., embedding_name="the exact model")',
        )
    return LangChainEncoder(embedding, name)


def _document(stored: Stored) -> Document:
    return Document(id=stored.id, page_content=stored.text, metadata=dict(stored.metadata))


def _passage(hit: Hit) -> Document:
    place = {
        "document_id": hit.document_id,
        "title": hit.title,
        "start": hit.start,
        "end": hit.end,
        "score": hit.score,
    }
    return Document(
        id=f"{hit.document_id}#{hit.chunk}", page_content=hit.text, metadata={**hit.metadata, PASSAGE: place}
    )
