"""Documents into the file: compare, cut, embed outside any transaction, then write in a short one."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge_embed.errors import InputError
from edge_embed.progress import Advance
from edge_embed.retrieval.cutter import Cutter
from edge_embed.retrieval.documents import Source
from edge_embed.retrieval.store.database import Database
from edge_embed.retrieval.store.settings import Encoder, Settings
from edge_embed.retrieval.store.vectors import Floats, unit_rows
from edge_embed.retrieval.store.writer import NewChunk, NewDocument, Writer
from edge_embed.retrieval.types import AddResult

GROUP_DOCUMENTS, GROUP_CHARACTERS = 256, 400_000
"""The most documents that are embedded and committed together, and about how many characters they have."""


_HALF = 16
"""Bytes of a content hash that depend on the text; the others depend on the metadata."""


@dataclass(frozen=True)
class Prepared:
    """A document that is ready to be written.

    Attributes:
        document: The document with its chunks.
        vectors: The unit vectors of its chunks, ``(chunks, dimension)``.
    """

    document: NewDocument
    vectors: Floats


def groups(sources: Iterable[Source]) -> Iterator[list[Source]]:
    """Yields the documents in groups that are committed together."""
    group: list[Source] = []
    characters = 0
    for source in sources:
        group.append(source)
        characters += len(source.text)
        if len(group) >= GROUP_DOCUMENTS or characters >= GROUP_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group


class Indexer:
    """Cuts, embeds and writes documents.

    Args:
        database: The file.
        settings: The index's settings.
        model: The model.
    """

    def __init__(self, database: Database, settings: Settings, model: Encoder) -> None:
        self._database, self._settings, self._model = database, settings, model
        self._cutter = Cutter(model, settings.chunk_tokens, settings.overlap)

    def add(self, sources: Sequence[Source]) -> AddResult:
        """Stores a group of documents in one transaction; those with the same content are left alone."""
        with self._database.reading() as connection:
            stored = _hashes(connection, sources)
        if all(stored.get(source.name) == source.content_hash for source in sources):
            return AddResult(unchanged=len(sources))
        # Where only the metadata changed, the vectors stay.
        prepared = self.prepare([s for s in sources if stored.get(s.name, b"")[:_HALF] != s.text_hash])
        with self._database.writing() as connection:
            writer = Writer(connection, self._settings)
            # Another process may have written since they were compared.
            stored = _hashes(connection, sources)
            different = [s for s in sources if stored.get(s.name) != s.content_hash]
            put = []
            for source in different:
                if source.name in prepared:
                    put.append(prepared[source.name])
                elif stored.get(source.name, b"")[:_HALF] == source.text_hash:
                    writer.set_metadata(source.name, source.metadata, source.content_hash)
                else:  # deleted or replaced meanwhile
                    put.append(self.prepare([source])[source.name])
            if put:
                writer.put([p.document for p in put], np.concatenate([p.vectors for p in put]))
            if different:
                writer.finish()
        new = sum(source.name not in stored for source in different)
        return AddResult(
            new, len(different) - new, len(sources) - len(different), sum(len(p.vectors) for p in put)
        )

    def prepare(self, sources: Sequence[Source]) -> dict[str, Prepared]:
        """Cuts and embeds documents; returns them by name."""
        cuts = [self._cutter.cut(source) for source in sources]
        texts = [
            s.text[c.start : c.stop] for s, (chunks, _) in zip(sources, cuts, strict=True) for c in chunks
        ]
        vectors = self._embed(texts, [title for _, titles in cuts for title in titles])
        prepared, at = {}, 0
        for source, (chunks, _) in zip(sources, cuts, strict=True):
            prepared[source.name] = Prepared(_new_document(source, chunks), vectors[at : at + len(chunks)])
            at += len(chunks)
        return prepared

    def reindex(self, settings: Settings, advance: Advance) -> None:
        """Cuts and embeds all documents again, under new settings, in one transaction."""
        with self._database.writing() as connection:
            settings.save(connection)
            writer = Writer(connection, settings)
            writer.clear_vectors()
            last = 0
            while group := connection.execute(
                "SELECT id, name, text, title, kind, metadata FROM documents "
                "WHERE id > ? ORDER BY id LIMIT ?",
                [last, GROUP_DOCUMENTS],
            ).fetchall():
                sources = {row: Source(*content) for row, *content in group}
                prepared = self.prepare(list(sources.values()))
                for row, source in sources.items():
                    writer.put_chunks(row, prepared[source.name].document, prepared[source.name].vectors)
                last = group[-1][0]
                advance(len(group))
            writer.count_words()
            writer.finish()

    def _embed(self, texts: list[str], titles: list[str | None]) -> Floats:
        """Returns unit vectors of the index's dimension.

        Raises:
            InputError: If the model gives vectors of another shape, or numbers that are not finite.
        """
        dimension = self._settings.dimension
        if not texts:
            return np.empty((0, dimension), np.float32)
        vectors = np.asarray(self._model.encode_document(texts, titles=titles), np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts) or vectors.shape[1] < dimension:
            raise InputError(
                "the model gave vectors of the wrong shape",
                got=str(vectors.shape),
                expected=f"({len(texts)}, {dimension})",
            )
        if not np.isfinite(vectors).all():
            raise InputError("the model gave a vector that is not finite")
        return unit_rows(vectors, dimension)


def _new_document(source: Source, chunks: Sequence[NewChunk]) -> NewDocument:
    return NewDocument(
        source.name, source.content_hash, source.title, source.kind, source.metadata, source.text, chunks
    )


def _hashes(connection: sqlite3.Connection, sources: Sequence[Source]) -> dict[str, bytes]:
    """Returns the content hashes of those documents that the file has."""
    rows = connection.execute(
        "SELECT name, content_hash FROM documents WHERE name IN (SELECT value FROM json_each(?))",
        [json.dumps([source.name for source in sources], ensure_ascii=False)],
    )
    return {name: bytes(content_hash) for name, content_hash in rows}


def choose_lexical(sources: Sequence[Source]) -> str:
    """Returns "trigrams" where most letters belong to scripts without spaces, otherwise "words"."""
    letters = spaceless = 0
    for source in sources:
        for letter in source.text[:2000]:
            if letter.isalpha():
                letters += 1
                spaceless += _without_spaces(ord(letter))
    return "trigrams" if spaceless * 2 > letters else "words"


_SPACELESS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x323AF),
)


def _without_spaces(code: int) -> bool:
    return any(first <= code <= last for first, last in _SPACELESS)
