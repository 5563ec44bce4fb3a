"""What the index takes and gives: documents, hits, counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Document:
    """A document as it is stored.

    Attributes:
        id: The caller's name for it, unique in the index.
        text: The whole text.
        title: Its title; empty if it has none.
        metadata: What `where` filters by, and whatever else the caller wants to get back.
        kind: How the text is cut: "text", "markdown" or "code".
    """

    id: str
    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "text"


@dataclass(frozen=True)
class Hit:
    """One result of a search: a chunk of a document.

    Attributes:
        document_id: The document's id.
        chunk: The chunk's number in its document, from 0.
        text: The chunk's text.
        start: Where the chunk begins in the document's text, in characters.
        end: Where it ends.
        title: The document's title; empty if it has none.
        headings: The headings above the chunk, outermost first.
        metadata: The document's metadata.
        score: What the hits are ordered by: the cosine in mode "vector", BM25 in mode "text", the weighted
            sum of both, standardized over what this search has found, in mode "hybrid".
        vector_score: The cosine of the query and the chunk; None in mode "text".
        text_score: BM25, greater is better; None if the words of the query did not find the chunk.
        snippet: The part of the text that holds most of the query's words, with marks around them.
    """

    document_id: str
    chunk: int
    text: str
    start: int
    end: int
    title: str
    headings: tuple[str, ...]
    metadata: Mapping[str, Any]
    score: float
    vector_score: float | None
    text_score: float | None
    snippet: str


@dataclass(frozen=True)
class AddResult:
    """How many documents a call of `Index.add` found new, changed and unchanged.

    Attributes:
        new: Documents whose id was not in the index.
        changed: Documents that replaced another content under the same id.
        unchanged: Documents that were there already, with this content.
        chunks: Chunks that were embedded.
    """

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    chunks: int = 0

    def __add__(self, other: AddResult) -> AddResult:
        return AddResult(
            self.new + other.new,
            self.changed + other.changed,
            self.unchanged + other.unchanged,
            self.chunks + other.chunks,
        )


@dataclass(frozen=True)
class Stats:
    """What an index holds.

    Attributes:
        documents: Documents.
        chunks: Chunks of them.
        deleted_chunks: Chunks of deleted or replaced documents whose place `compact` gives back.
        dimension: Dimension of the stored vectors.
        vectors: "int8" or "float32".
        lexical: "words" or "trigrams".
        chunk_tokens: The most tokens of a chunk.
        overlap: Tokens that neighbouring chunks share.
        model: The model's name.
        model_path: Where the model file was when the index was last opened for writing; None if unknown.
        schema_version: Version of the file's schema.
        file_bytes: Size of the file, its write-ahead log included.
        resident_bytes: Memory that the vectors take in this process.
    """

    documents: int
    chunks: int
    deleted_chunks: int
    dimension: int
    vectors: str
    lexical: str
    chunk_tokens: int
    overlap: int
    model: str
    model_path: str | None
    schema_version: int
    file_bytes: int
    resident_bytes: int
