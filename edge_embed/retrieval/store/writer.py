"""Writing: documents in, documents out, and the blocks of vectors that follow them.

Every function here runs inside a writing transaction of the caller.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge_embed.retrieval.store import schema
from edge_embed.retrieval.store.metadata import fields
from edge_embed.retrieval.store.settings import Settings, State
from edge_embed.retrieval.store.vectors import (
    FLOAT_BLOCK,
    SIGN_BLOCK,
    CodeBlock,
    Floats,
    SignBlock,
    checksum,
    codes_in_block,
    damaged_block,
    quantize,
    require_intact,
    sign_bits,
    unpack_floats,
)

Places = npt.NDArray[np.int64]
"""Which rows of a block."""

_TOGETHER = 200
"""Documents whose texts are in memory together when they are deleted."""

RECOUNT = 1.5
"""Common words are counted again when the index has grown by this factor since."""

FREQUENT_SHARE, FREQUENT_LEAST = 1 / 1000, 16
"""A word is common from this share of the chunks on, and from this number."""


@dataclass(frozen=True)
class NewChunk:
    """A chunk on its way into the file.

    Attributes:
        start: Where it begins in the text, in characters.
        stop: Where it ends.
        tokens: How many tokens it has.
        headings: The headings above it.
    """

    start: int
    stop: int
    tokens: int
    headings: tuple[str, ...]


@dataclass(frozen=True)
class NewDocument:
    """A document on its way into the file, with its chunks.

    Attributes:
        name: The caller's id.
        content_hash: Hash of all of the content.
        title: Its title.
        kind: Its kind.
        metadata: Its metadata as JSON.
        text: Its text.
        chunks: Its chunks, in order.
    """

    name: str
    content_hash: bytes
    title: str
    kind: str
    metadata: str
    text: str
    chunks: Sequence[NewChunk]


class Writer:
    """One writing transaction.

    Args:
        connection: The writer's connection, in a transaction.
        settings: The index's settings.

    Raises:
        IndexModelError: If another process has given the index to another model meanwhile.
    """

    def __init__(self, connection: sqlite3.Connection, settings: Settings) -> None:
        self._connection = connection
        self._settings = settings
        settings.require_same_vectors(Settings.load(connection))
        before = State.load(connection)
        self._generation = before.generation + 1
        self.state = replace(before, generation=self._generation)

    def put(self, documents: Sequence[NewDocument], vectors: Floats) -> None:
        """Stores documents, in place of those of the same name.

        Args:
            documents: What to store, names once each.
            vectors: Unit vectors of all their chunks in order, ``(chunks, dimension)``.
        """
        self.delete([document.name for document in documents])
        (last,) = self._connection.execute("SELECT coalesce(max(id), 0) FROM documents").fetchone()
        rows = range(last + 1, last + 1 + len(documents))
        self._connection.executemany(
            "INSERT INTO documents (id, name, content_hash, title, kind, metadata, text) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (row, d.name, d.content_hash, d.title, d.kind, d.metadata, d.text)
                for row, d in zip(rows, documents, strict=True)
            ],
        )
        owners: list[int] = []
        for row, document in zip(rows, documents, strict=True):
            self._put_fields(row, document.metadata)
            self._put_chunks(row, document, self.state.next_slot + len(owners))
            owners += [row] * len(document.chunks)
        self._append(np.asarray(owners, np.int32), vectors)
        self._change(documents=len(documents))

    def set_metadata(self, name: str, metadata: str, content_hash: bytes) -> None:
        """Replaces the metadata of a document and leaves its chunks and vectors."""
        execute = self._connection.execute
        (row,) = execute("SELECT id FROM documents WHERE name = ?", [name]).fetchone()
        execute(
            "UPDATE documents SET metadata = ?, content_hash = ? WHERE id = ?", [metadata, content_hash, row]
        )
        execute("DELETE FROM fields WHERE document = ?", [row])
        self._put_fields(row, metadata)

    def delete(self, names: Iterable[str]) -> int:
        """Removes documents with all that belongs to them; returns how many there were."""
        wanted = list(names)
        groups = (wanted[start : start + _TOGETHER] for start in range(0, len(wanted), _TOGETHER))
        return sum(map(self._delete, groups))

    def _delete(self, names: Sequence[str]) -> int:
        execute = self._connection.execute
        rows, slots = [], []
        found = execute(
            "SELECT id, title, text FROM documents WHERE name IN (SELECT value FROM json_each(?))",
            [json.dumps(names, ensure_ascii=False)],
        )
        for row, title, text in found.fetchall():
            rows.append((row,))
            old = execute("SELECT id, start, stop, headings FROM chunks WHERE document = ?", [row]).fetchall()
            # FTS5 keeps no text of its own here and must be handed the text that it forgets.
            self._connection.executemany(
                "INSERT INTO lexical (lexical, rowid, title, text) VALUES ('delete', ?, ?, ?)",
                [(c, _lexical_title(title, headings), text[start:stop]) for c, start, stop, headings in old],
            )
            slots += [chunk - 1 for chunk, *_ in old]
        for table, column in (("chunks", "document"), ("fields", "document"), ("documents", "id")):
            self._connection.executemany(f"DELETE FROM {table} WHERE {column} = ?", rows)
        self._forget(slots)
        self._change(documents=-len(rows), chunks=-len(slots))
        return len(rows)

    def finish(self) -> None:
        """Counts common words if it is time, and writes the counters."""
        if self.state.chunks > self.state.counted * RECOUNT or not self.state.chunks:
            self.count_words()
        self.state.save(self._connection)

    def count_words(self) -> None:
        """Counts in how many chunks each common word is."""
        least = max(FREQUENT_LEAST, int(self.state.chunks * FREQUENT_SHARE))
        self._connection.execute("DELETE FROM frequent")
        self._connection.execute(
            "INSERT INTO frequent SELECT term, doc FROM lexical_terms WHERE doc >= ?", [least]
        )
        self.state = replace(self.state, counted=self.state.chunks)

    def renumber(self) -> None:
        """Gives all chunks new slots without gaps, in the old order, and writes all blocks anew."""
        execute = self._connection.execute
        pairs = np.array(
            execute("SELECT id - 1, document FROM chunks ORDER BY id").fetchall(), np.int64
        ).reshape(-1, 2)
        slots, owners = pairs[:, 0], pairs[:, 1].astype(np.int32)
        dimension = self._settings.dimension

        def signs(parts: list[tuple[bytes, Places]], span: slice) -> bytes:
            blocks = [(SignBlock.unpack(data, dimension), places) for data, places in parts]
            return SignBlock(owners[span], np.concatenate([b.bits[places] for b, places in blocks])).pack()

        def quantized(parts: list[tuple[bytes, Places]], span: slice) -> bytes:
            blocks = [(CodeBlock.unpack(data, dimension), places) for data, places in parts]
            return CodeBlock(
                np.concatenate([b.scales[places] for b, places in blocks]),
                np.concatenate([b.codes[places] for b, places in blocks]),
            ).pack()

        def exact(parts: list[tuple[bytes, Places]], span: slice) -> bytes:
            return b"".join(unpack_floats(data, dimension)[places].tobytes() for data, places in parts)

        self._move("signs", SIGN_BLOCK, slots, signs)
        self._move("codes", codes_in_block(dimension), slots, quantized)
        if self._settings.vectors == "float32":
            self._move("floats", FLOAT_BLOCK, slots, exact)
        # Upwards, so that each new number is free: it is never above the old one.
        self._connection.executemany(
            "UPDATE chunks SET id = ? WHERE id = ?",
            [(new + 1, slot + 1) for new, slot in enumerate(slots.tolist()) if new != slot],
        )
        execute("INSERT INTO lexical (lexical) VALUES ('rebuild')")
        count = len(slots)
        self.state = replace(self.state, next_slot=count, chunks=count, epoch=self.state.epoch + 1)
        self.count_words()

    def _move(
        self,
        table: str,
        size: int,
        slots: npt.NDArray[np.int64],
        build: Callable[[list[tuple[bytes, Places]], slice], bytes],
    ) -> None:
        """Fills the blocks of a table with the rows of `slots` and removes the blocks behind them.

        In place: block ``n`` takes rows of blocks ``n`` and later only, which are read before they change.
        """
        for block in range(-(-len(slots) // size)):
            span = slice(block * size, (block + 1) * size)
            numbers, places = np.divmod(slots[span], size)
            parts = [(self._block(table, int(n)), places[numbers == n]) for n in np.unique(numbers)]
            data = build(parts, span)
            self._write_blocks(table, [(block, checksum(data), data)])
        self._connection.execute(f"DELETE FROM {table} WHERE block >= ?", [-(-len(slots) // size)])

    def clear_vectors(self) -> None:
        """Removes all chunks, vectors and words, and leaves the documents: the first step of `reindex`."""
        for table in ("chunks", "signs", "codes", "floats", "frequent"):
            self._connection.execute(f"DELETE FROM {table}")
        schema.create_lexical(self._connection, self._settings.lexical)
        self.state = replace(self.state, next_slot=0, chunks=0, counted=0, epoch=self.state.epoch + 1)

    def put_chunks(self, row: int, document: NewDocument, vectors: Floats) -> None:
        """Stores the chunks and vectors of a document that is in the file already."""
        self._put_chunks(row, document, self.state.next_slot)
        self._append(np.full(len(vectors), row, np.int32), vectors)

    def _put_chunks(self, row: int, document: NewDocument, first: int) -> None:
        chunks, words = [], []
        for ordinal, chunk in enumerate(document.chunks):
            identity = first + ordinal + 1
            headings = json.dumps(chunk.headings, ensure_ascii=False) if chunk.headings else None
            chunks.append((identity, row, ordinal, chunk.start, chunk.stop, chunk.tokens, headings))
            words.append(
                (
                    identity,
                    _lexical_title(document.title, headings),
                    document.text[chunk.start : chunk.stop],
                )
            )
        self._connection.executemany("INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?)", chunks)
        self._connection.executemany("INSERT INTO lexical (rowid, title, text) VALUES (?, ?, ?)", words)

    def _put_fields(self, row: int, metadata: str) -> None:
        if metadata != "{}":
            self._connection.executemany(
                "INSERT OR IGNORE INTO fields VALUES (?, ?, ?)",
                [(name, value, row) for name, value in fields(json.loads(metadata))],
            )

    def _change(self, documents: int = 0, chunks: int = 0) -> None:
        self.state = replace(
            self.state, documents=self.state.documents + documents, chunks=self.state.chunks + chunks
        )

    def _append(self, owners: npt.NDArray[np.int32], vectors: Floats) -> None:
        first, count = self.state.next_slot, len(owners)
        assert vectors.shape == (count, self._settings.dimension)
        if not count:
            return
        bits = sign_bits(vectors)
        scales, codes = quantize(vectors)
        dimension = self._settings.dimension

        def signs(old: bytes, part: slice) -> bytes:
            before = SignBlock.unpack(old, dimension)
            return SignBlock(
                np.concatenate([before.documents, owners[part]]), np.concatenate([before.bits, bits[part]])
            ).pack()

        def quantized(old: bytes, part: slice) -> bytes:
            before = CodeBlock.unpack(old, dimension)
            return CodeBlock(
                np.concatenate([before.scales, scales[part]]), np.concatenate([before.codes, codes[part]])
            ).pack()

        def exact(old: bytes, part: slice) -> bytes:
            return np.concatenate([unpack_floats(old, dimension), vectors[part]]).astype("<f4").tobytes()

        self._extend("signs", SIGN_BLOCK, first, count, signs)
        self._extend("codes", codes_in_block(dimension), first, count, quantized)
        if self._settings.vectors == "float32":
            self._extend("floats", FLOAT_BLOCK, first, count, exact)
        self.state = replace(self.state, next_slot=first + count)
        self._change(chunks=count)

    def _extend(
        self, table: str, size: int, first: int, count: int, extend: Callable[[bytes, slice], bytes]
    ) -> None:
        """Appends `count` rows from slot `first` on to the blocks of a table."""
        rows = []
        for block in range(first // size, (first + count - 1) // size + 1):
            start, stop = max(block * size, first), min((block + 1) * size, first + count)
            old = self._block(table, block) if start % size else b""
            try:
                data = extend(old, slice(start - first, stop - first))
            except ValueError as error:
                raise damaged_block(table, block, str(error)) from error
            rows.append((block, checksum(data), data))
        self._write_blocks(table, rows)

    def _write_blocks(self, table: str, rows: Sequence[tuple[int, int, bytes]]) -> None:
        if table == "signs":
            self._connection.executemany(
                f"INSERT OR REPLACE INTO signs VALUES (?, {self._generation}, ?, ?)", rows
            )
        else:
            self._connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)", rows)

    def _block(self, table: str, block: int) -> bytes:
        found = self._connection.execute(
            f"SELECT checksum, data FROM {table} WHERE block = ?", [block]
        ).fetchone()
        if found is None:
            raise damaged_block(table, block, "no such block")
        require_intact(table, block, found[1], found[0])
        return bytes(found[1])

    def _forget(self, slots: Sequence[int]) -> None:
        """Marks slots as deleted."""
        by_block: dict[int, list[int]] = {}
        for slot in slots:
            by_block.setdefault(slot // SIGN_BLOCK, []).append(slot % SIGN_BLOCK)
        rows = []
        for block, places in by_block.items():
            content = SignBlock.unpack(self._block("signs", block), self._settings.dimension)
            content.documents[places] = 0
            data = content.pack()
            rows.append((block, checksum(data), data))
        self._write_blocks("signs", rows)


def _lexical_title(title: str, headings: str | None) -> str:
    """Returns the title column of the full-text table, as the view `chunk_texts` spells it."""
    return title if headings is None else f"{title} {headings}"
