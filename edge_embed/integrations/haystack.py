"""A model file and an index for Haystack: embedders, a document store, and a retriever of passages.

Needs the package haystack-ai: ``pip install 'edge-embed[haystack]'``.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from edge_embed import Embedder, Index
from edge_embed.errors import InputError
from edge_embed.extras import needs_extra
from edge_embed.integrations.model import Model, open_model
from edge_embed.retrieval import Document as Stored
from edge_embed.retrieval import Hit
from edge_embed.retrieval.options import MOST_HITS

with needs_extra("haystack", "the adapter for Haystack"):
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.document_stores.errors import DuplicateDocumentError
    from haystack.document_stores.types import DuplicatePolicy
    from haystack.utils.filters import document_matches_filter

Filters = dict[str, Any]

TITLE = "title"
"""The field of a document's metadata that is its title, unless another is named."""

CANDIDATES = 4
"""How many times as many hits are looked at first, where a filter is applied to them one by one."""


class _Model:
    """A model that is loaded when a pipeline warms up, and what a saved pipeline keeps of it."""

    def __init__(self, model: Model, truncate_dim: int | None, overflow: str | None) -> None:
        self.embedder = model if isinstance(model, Embedder) else None
        given = open_model(model, truncate_dim=truncate_dim, overflow=overflow) if self.embedder else None
        self.options: dict[str, Any] = {
            "model": str(given.path if given is not None else model),
            "truncate_dim": given.truncate_dim if given is not None else truncate_dim,
            "overflow": given.overflow if given is not None else overflow,
        }

    def load(self) -> Embedder:
        if self.embedder is None:
            self.embedder = open_model(**self.options)
        return self.embedder


@component
class EdgeEmbedTextEmbedder:
    """Embeds a query, with the model's query prompt.

    Args:
        model: The model file, or an `Embedder`.
        truncate_dim: Option of `Embedder`, with a path.
        overflow: Option of `Embedder`, with a path.
    """

    def __init__(self, model: Model, *, truncate_dim: int | None = None, overflow: str | None = None) -> None:
        self._model = _Model(model, truncate_dim, overflow)

    def warm_up(self) -> None:
        """Loads the model."""
        self._model.load()

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """Returns the vector of a query under "embedding"."""
        if not isinstance(text, str):
            raise InputError(
                "a text embedder takes one string",
                got=type(text).__name__,
                fix="embed documents with EdgeEmbedDocumentEmbedder",
            )
        vector = self._model.load().encode_query(text, show_progress_bar=False)
        return {"embedding": [*map(float, vector)]}

    def to_dict(self) -> dict[str, Any]:
        """Returns what `from_dict` needs."""
        saved: dict[str, Any] = default_to_dict(self, **self._model.options)
        return saved

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EdgeEmbedTextEmbedder:
        """Makes the component that `to_dict` described."""
        return default_from_dict(cls, data)  # type: ignore[no-any-return]


@component
class EdgeEmbedDocumentEmbedder:
    """Embeds documents, with the model's document prompt and their titles.

    Args:
        model: The model file, or an `Embedder`.
        truncate_dim: Option of `Embedder`, with a path.
        overflow: Option of `Embedder`, with a path.
        title_field: The field of a document's metadata that is its title.
    """

    def __init__(
        self,
        model: Model,
        *,
        truncate_dim: int | None = None,
        overflow: str | None = None,
        title_field: str | None = TITLE,
    ) -> None:
        self._model = _Model(model, truncate_dim, overflow)
        self._title_field = title_field

    def warm_up(self) -> None:
        """Loads the model."""
        self._model.load()

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Returns copies of the documents with their vectors under "documents"."""
        _check_documents(documents)
        vectors = self._model.load().encode_document(
            [document.content or "" for document in documents],
            titles=[_title(document, self._title_field) for document in documents],
            show_progress_bar=False,
        )
        embedded = [
            replace(document, embedding=[*map(float, vector)])
            for document, vector in zip(documents, vectors, strict=True)
        ]
        return {"documents": embedded}

    def to_dict(self) -> dict[str, Any]:
        """Returns what `from_dict` needs."""
        saved: dict[str, Any] = default_to_dict(self, **self._model.options, title_field=self._title_field)
        return saved

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EdgeEmbedDocumentEmbedder:
        """Makes the component that `to_dict` described."""
        return default_from_dict(cls, data)  # type: ignore[no-any-return]


class EdgeEmbedDocumentStore:
    """An index file as Haystack's document store.

    It cuts and embeds documents itself when they are written: a pipeline needs no document embedder before
    it, and vectors that documents bring along are not kept. Every document needs text.

    Args:
        path: The index file; it is made where there is none.
        model: The model file, or an `Embedder`; None for the one that the index was last opened with.
        title_field: The field of a document's metadata that is its title.
        options: Options of `Index.open`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        model: Model | None = None,
        *,
        title_field: str | None = TITLE,
        **options: Any,
    ) -> None:
        self.index = Index.open(path, model, **options)
        self._title_field, self._options = title_field, options

    def to_dict(self) -> dict[str, Any]:
        """Returns what `from_dict` needs. The index file knows its model."""
        saved: dict[str, Any] = default_to_dict(
            self, path=str(self.index.path), title_field=self._title_field, **self._options
        )
        return saved

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EdgeEmbedDocumentStore:
        """Opens the store that `to_dict` described."""
        return default_from_dict(cls, data)  # type: ignore[no-any-return]

    def count_documents(self) -> int:
        """Returns how many documents there are."""
        return len(self.index)

    def filter_documents(self, filters: Filters | None = None) -> list[Document]:
        """Returns the documents that a filter lets through, all of them without one."""
        documents = (_document(stored) for stored in self.index)
        return [document for document in documents if not filters or _passes(filters, document)]

    def count_documents_by_filter(self, filters: Filters) -> int:
        """Returns how many documents a filter lets through."""
        return len(self.filter_documents(filters))

    def write_documents(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """Stores documents and returns how many were written.

        Args:
            documents: The documents.
            policy: What happens to a document whose id already exists: FAIL (also NONE), SKIP or OVERWRITE.

        Raises:
            InputError: If an item is not a document, or has no text.
            DuplicateDocumentError: If an id already exists and `policy` is FAIL.
        """
        _check_documents(documents)
        chosen: dict[str, Document] = {}
        for document in documents:
            there = document.id in chosen or document.id in self.index
            if there and policy in (DuplicatePolicy.NONE, DuplicatePolicy.FAIL):
                raise DuplicateDocumentError(f"a document with the id {document.id!r} already exists")
            if not there or policy == DuplicatePolicy.OVERWRITE:
                chosen[document.id] = document
        self._add(list(chosen.values()))
        return len(chosen)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Removes documents. Ids that are not there are passed over."""
        self.index.delete(document_ids)

    def delete_all_documents(self) -> None:
        """Removes all documents."""
        self.index.delete(self.index.ids())

    def delete_by_filter(self, filters: Filters) -> int:
        """Removes the documents that a filter lets through, and returns how many."""
        return self.index.delete([document.id for document in self.filter_documents(filters)])

    def update_by_filter(self, filters: Filters, meta: dict[str, Any]) -> int:
        """Sets fields of the metadata of the documents that a filter lets through; returns how many."""
        found = self.filter_documents(filters)
        self._add([replace(document, meta={**document.meta, **meta}) for document in found])
        return len(found)

    def search(
        self, query: str, top_k: int = 10, filters: Filters | None = None, **options: Any
    ) -> list[Hit]:
        """Returns the passages that answer a query best.

        Args:
            query: The query.
            top_k: How many at most.
            filters: A filter of Haystack's.
            options: More options of `Index.search`.
        """
        if not filters:
            return self.index.search(query, top_k, **options)
        # Only a part of Haystack's filters can be said to the index; the rest is applied to the hits.
        where, wanted = _where(filters), top_k * CANDIDATES
        most = min(self.index.stats().chunks, MOST_HITS)
        verdicts: dict[str, bool] = {}
        while True:
            hits = self.index.search(query, max(1, min(wanted, most)), where=where, **options)
            for hit in hits:
                if hit.document_id not in verdicts:
                    stored = self.index.get(hit.document_id)
                    verdicts[hit.document_id] = stored is not None and _passes(filters, _document(stored))
            passed = [hit for hit in hits if verdicts[hit.document_id]]
            if len(passed) >= top_k or wanted >= most:
                return passed[:top_k]
            wanted *= CANDIDATES

    def _add(self, documents: list[Document]) -> None:
        self.index.add(
            [
                {
                    "id": document.id,
                    "text": document.content,
                    "title": _title(document, self._title_field),
                    "metadata": document.meta,
                }
                for document in documents
            ],
            show_progress_bar=False,
        )


@component
class EdgeEmbedRetriever:
    """Finds passages in an `EdgeEmbedDocumentStore`, by meaning and by words.

    A passage is a document. Its metadata is that of its source, with Haystack's own fields for parts of
    documents: `source_id`, `split_id` and `split_idx_start`.

    Args:
        document_store: The store.
        top_k: How many passages at most.
        filters: A filter of Haystack's.
        search_options: More options of `Index.search`.
    """

    def __init__(
        self,
        document_store: EdgeEmbedDocumentStore,
        top_k: int = 10,
        filters: Filters | None = None,
        search_options: dict[str, Any] | None = None,
    ) -> None:
        self._store, self._count, self._filters = document_store, top_k, filters
        self._options = dict(search_options or {})

    @component.output_types(documents=list[Document])
    def run(self, query: str, top_k: int | None = None, filters: Filters | None = None) -> dict[str, Any]:
        """Returns passages under "documents"."""
        hits = self._store.search(query, top_k or self._count, filters or self._filters, **self._options)
        return {"documents": [_passage(hit) for hit in hits]}

    def to_dict(self) -> dict[str, Any]:
        """Returns what `from_dict` needs."""
        saved: dict[str, Any] = default_to_dict(
            self,
            document_store=self._store.to_dict(),
            top_k=self._count,
            filters=self._filters,
            search_options=self._options,
        )
        return saved

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> EdgeEmbedRetriever:
        """Makes the component that `to_dict` described."""
        parameters = dict(data["init_parameters"])
        parameters["document_store"] = EdgeEmbedDocumentStore.from_dict(parameters["document_store"])
        return default_from_dict(cls, {**data, "init_parameters": parameters})  # type: ignore[no-any-return]


def _check_documents(documents: Any) -> None:
    if not isinstance(documents, list):
        raise InputError("documents is not a list", got=type(documents).__name__, expected="list[Document]")
    for place, document in enumerate(documents):
        if not isinstance(document, Document):
            raise InputError(
                f"item {place} is not a document", got=type(document).__name__, expected="Document"
            )
        if document.content is None:
            raise InputError(
                f"document {document.id!r} has no text", got="content=None", expected="text in content"
            )


def _title(document: Document, field: str | None) -> str | None:
    title = document.meta.get(field) if field else None
    return title if isinstance(title, str) else None


def _document(stored: Stored) -> Document:
    return Document(id=stored.id, content=stored.text, meta=dict(stored.metadata))


def _passage(hit: Hit) -> Document:
    place = {"source_id": hit.document_id, "split_id": hit.chunk, "split_idx_start": hit.start}
    return Document(
        id=f"{hit.document_id}#{hit.chunk}",
        content=hit.text,
        meta={**hit.metadata, **place},
        score=hit.score,
    )


def _passes(filters: Filters, document: Document) -> bool:
    return bool(document_matches_filter(filters, document))


def _where(filters: Filters) -> dict[str, Any]:
    """Returns the part of a filter that the index itself can apply: it lets all through that the filter does.

    That is equality of a metadata field with a number or a string, alone or joined by AND. A string that
    begins with a year may be a date, which Haystack compares by its meaning.
    """
    parts = filters.get("conditions", []) if filters.get("operator") == "AND" else [filters]
    where: dict[str, Any] = {}
    for part in [part for part in parts if isinstance(part, dict)]:
        field, value = str(part.get("field", "")), part.get("value")
        usable = isinstance(value, (str, int, float)) and not isinstance(value, bool)
        date = isinstance(value, str) and value[:4].isdigit()
        if field.startswith("meta.") and part.get("operator") == "==" and usable and not date:
            where[field.removeprefix("meta.")] = value
    return where
