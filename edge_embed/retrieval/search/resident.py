"""Vectors in memory: what a search scans, kept up to date with the file.

The sign bits lie in columns, ``uint64[words, slots]``, so that a scan runs along memory. With
``memory="full"`` the int8 vectors are held too, from the second search on, so that a single question need
not wait for them; with "low" they are read from the file, for the candidates only. A view is never changed:
a newer one shares its arrays, which only grow behind its end.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge_embed.retrieval.store.settings import Settings, State
from edge_embed.retrieval.store.vectors import (
    FLOAT_BLOCK,
    SIGN_BLOCK,
    CodeBlock,
    Codes,
    Floats,
    Integers,
    SignBlock,
    codes_in_block,
    damaged_block,
    require_intact,
    unpack_floats,
)

Slots = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_READ_TOGETHER = 256
"""Blocks that are read together, or slots whose blocks are: about a megabyte."""

_SPARE = 1 / 8
"""Room that is kept for growth. The system gives memory to it only when it is written."""


@dataclass(frozen=True)
class View:
    """The vectors of one generation of the file.

    Attributes:
        state: The file's counters at that time.
        dimension: Dimension of the vectors.
        bits: Sign bits in columns, ``(words, capacity)``.
        documents: The document of each slot, 0 where it was deleted, ``(slots,)``.
        deleted: The slots that were deleted.
        scales: Scales of the int8 vectors, ``(capacity,)``; None where they are not held.
        codes: The int8 vectors, ``(capacity, dimension)``; None where they are not held.
    """

    state: State
    dimension: int
    bits: Words
    documents: Integers
    deleted: Slots
    scales: Floats | None
    codes: Codes | None

    @property
    def slots(self) -> int:
        """How many slots there are, deleted ones included."""
        return len(self.documents)

    @property
    def nbytes(self) -> int:
        """Bytes in use, without the room for growth."""
        bits = self.slots * self.bits.shape[0] * 8
        rows = 0 if self.codes is None else self.slots * (self.dimension + 4)
        return int(bits + rows + self.documents.nbytes + self.deleted.nbytes)

    def rows(self, slots: Slots, connection: sqlite3.Connection) -> Floats:
        """Returns the int8 vectors of some slots as float32, ``(n, dimension)``.

        Raises:
            IndexFileError: If they are read from the file and damaged there.
        """
        if self.codes is not None and self.scales is not None:
            rows = self.codes[slots].astype(np.float32)
            rows *= self.scales[slots, None]
            return rows
        scales, codes = _read_codes(connection, slots, self.dimension)
        rows = codes.astype(np.float32)
        rows *= scales[:, None]
        return rows

    def scores(self, query: Floats, slots: Slots, connection: sqlite3.Connection) -> Floats:
        """Returns the cosine of a unit query with the int8 vectors of some slots, ``(n,)``."""
        if self.codes is not None and self.scales is not None:
            scores: Floats = self.codes[slots].astype(np.float32) @ query
            scores *= self.scales[slots]
            return scores
        scores = np.empty(len(slots), np.float32)
        for start in range(0, len(slots), _READ_TOGETHER):
            scales, codes = _read_codes(connection, slots[start : start + _READ_TOGETHER], self.dimension)
            scores[start : start + _READ_TOGETHER] = (codes.astype(np.float32) @ query) * scales
        return scores


def _read_codes(connection: sqlite3.Connection, slots: Slots, dimension: int) -> tuple[Floats, Codes]:
    """Reads the int8 vectors of some slots from the file: each block that holds one of them, once."""
    size = codes_in_block(dimension)
    numbers, places = np.divmod(slots, size)
    wanted, which = np.unique(numbers, return_inverse=True)
    found: dict[int, bytes] = {}
    for block, expected, data in connection.execute(
        "SELECT block, checksum, data FROM json_each(?) AS wanted CROSS JOIN codes ON block = wanted.value",
        [json.dumps(wanted.tolist())],
    ):
        require_intact("codes", block, data, expected)
        found[block] = data
    scales, codes = _whole_blocks(found, wanted.tolist(), size, dimension)
    return scales[which, places], codes[which, places]


def _whole_blocks(
    found: dict[int, bytes], wanted: list[int], size: int, dimension: int
) -> tuple[Floats, Codes]:
    """Returns scales ``(blocks, size)`` and codes ``(blocks, size, dimension)``, zeros behind a short one."""
    whole = size * (dimension + 4)
    parts = []
    for block in wanted:
        data = found.get(block)
        if data is None:
            raise damaged_block("codes", block, "no such block")
        if len(data) != whole:  # the last one may be short
            try:
                content = CodeBlock.unpack(data, dimension)
            except ValueError as error:
                raise damaged_block("codes", block, str(error)) from error
            data = content.padded(size).pack()
        parts.append(data)
    rows = np.frombuffer(b"".join(parts), np.uint8).reshape(len(parts), whole)
    scales = np.ascontiguousarray(rows[:, : size * 4]).view("<f4")
    return scales, rows[:, size * 4 :].view(np.int8).reshape(len(parts), size, dimension)


class Resident:
    """Holds the newest view that was asked for.

    Args:
        settings: The index's settings.
        full: Whether the int8 vectors are held.
    """

    def __init__(self, settings: Settings, *, full: bool) -> None:
        self._dimension = settings.dimension
        self._full = full
        self._asked = False
        self._lock = threading.Lock()
        self._view: View | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the view that is held; 0 before the first search."""
        view = self._view
        return 0 if view is None else view.nbytes

    def forget_locks(self) -> None:
        """Replaces the lock, which a forked child may have inherited held."""
        self._lock = threading.Lock()

    def view(self, connection: sqlite3.Connection, state: State) -> View | None:
        """Returns the view of the connection's transaction, reading what is new since the last.

        Args:
            connection: A connection in a reading transaction.
            state: The counters in that transaction.

        Returns:
            The view, or None if a newer one is held: begin a new transaction and ask again.

        Raises:
            IndexFileError: If a block is damaged.
        """
        with self._lock:
            held = self._view
            if held is not None and held.state.generation > state.generation:
                return None
            with_codes = self._full and self._asked
            self._asked = True
            if held is None or held.state.epoch != state.epoch:
                held = self._empty(state)
            had, filled = held.codes is not None, held.slots
            if held.state.generation != state.generation:
                held = self._advance(connection, _with_capacity(held, state.next_slot), state)
            if with_codes and (not had or held.slots > filled):
                held = self._advance_codes(connection, held, filled if had else 0)
            self._view = held
            return held

    def _empty(self, state: State) -> View:
        capacity = state.next_slot + int(state.next_slot * _SPARE)
        return View(
            replace(state, generation=-1, next_slot=0),
            self._dimension,
            np.zeros((-(-self._dimension // 64), capacity), np.uint64),
            np.empty(0, np.int32),
            np.empty(0, np.int64),
            None,
            None,
        )

    def _advance(self, connection: sqlite3.Connection, held: View, state: State) -> View:
        documents = np.zeros(state.next_slot, np.int32)
        documents[: held.slots] = held.documents
        filled = held.slots
        by_byte = np.zeros((SIGN_BLOCK, held.bits.shape[0] * 8), np.uint8)
        rows = connection.execute(
            "SELECT block, checksum, data FROM signs WHERE generation > ? ORDER BY block",
            [held.state.generation],
        )
        for block, expected, data in rows:
            require_intact("signs", block, data, expected)
            content = self._sign_block(block, data, state.next_slot)
            first, stop = block * SIGN_BLOCK, block * SIGN_BLOCK + len(content.documents)
            documents[first:stop] = content.documents
            if stop <= filled:
                continue
            if first > filled:
                break  # a block is missing
            fresh = content.bits[filled - first :]
            by_byte[: len(fresh), : fresh.shape[1]] = fresh
            held.bits[:, filled:stop] = by_byte[: len(fresh)].view("<u8").T
            filled = stop
        if filled != state.next_slot:
            raise damaged_block("signs", filled // SIGN_BLOCK, "no such block, or a short one")
        return replace(
            held, state=state, documents=documents, deleted=np.flatnonzero(documents == 0).astype(np.int64)
        )

    def _sign_block(self, block: int, data: bytes, slots: int) -> SignBlock:
        try:
            content = SignBlock.unpack(data, self._dimension)
        except ValueError as error:
            raise damaged_block("signs", block, str(error)) from error
        if len(content.documents) != min(SIGN_BLOCK, slots - block * SIGN_BLOCK):
            raise damaged_block("signs", block, f"{len(content.documents)} vectors")
        return content

    def _advance_codes(self, connection: sqlite3.Connection, held: View, filled: int) -> View:
        """Returns the view with its int8 vectors, of which `filled` are there."""
        size, slots = codes_in_block(self._dimension), held.slots
        scales, codes = held.scales, held.codes
        if scales is None or codes is None:
            capacity = held.bits.shape[1]
            scales = np.empty(capacity, np.float32)
            codes = np.empty((capacity, self._dimension), np.int8)
        cursor = connection.execute(
            "SELECT block, checksum, data FROM codes WHERE block >= ? ORDER BY block", [filled // size]
        )
        # Many blocks at a time: the work for each is a checksum.
        while rows := cursor.fetchmany(_READ_TOGETHER):
            for block, expected, data in rows:
                require_intact("codes", block, data, expected)
            found = {block: data for block, _, data in rows}
            first = rows[0][0]
            if first * size > filled:
                break  # a block is missing
            parts = _whole_blocks(found, list(range(first, first + len(rows))), size, self._dimension)
            start, stop = first * size, min((first + len(rows)) * size, slots)
            fresh = slice(filled - start, stop - start)
            scales[filled:stop] = parts[0].reshape(-1)[fresh]
            codes[filled:stop] = parts[1].reshape(-1, self._dimension)[fresh]
            filled = stop
        if filled != slots:
            raise damaged_block("codes", filled // size, "no such block, or a short one")
        return replace(held, scales=scales, codes=codes)


def _with_capacity(held: View, slots: int) -> View:
    """Returns the view with room for this number of slots; arrays are copied only when they are too small."""
    if held.bits.shape[1] >= slots:
        return held
    capacity, used = slots + int(slots * _SPARE), held.slots
    bits = np.zeros((held.bits.shape[0], capacity), np.uint64)
    bits[:, :used] = held.bits[:, :used]
    if held.codes is None or held.scales is None:
        return replace(held, bits=bits)
    scales = np.empty(capacity, np.float32)
    codes = np.empty((capacity, held.dimension), np.int8)
    scales[:used], codes[:used] = held.scales[:used], held.codes[:used]
    return replace(held, bits=bits, scales=scales, codes=codes)


def float_blocks(connection: sqlite3.Connection, dimension: int) -> Iterator[tuple[int, Floats]]:
    """Yields the first slot and the float32 vectors of each block, ``(n, dimension)``.

    Raises:
        IndexFileError: If a block is damaged, or none are stored.
    """
    for block, expected, data in connection.execute(
        "SELECT block, checksum, data FROM floats ORDER BY block"
    ):
        require_intact("floats", block, data, expected)
        try:
            yield block * FLOAT_BLOCK, unpack_floats(data, dimension)
        except ValueError as error:
            raise damaged_block("floats", block, str(error)) from error
