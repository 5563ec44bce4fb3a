"""Nearest vectors: all int8 vectors of a small set, sign bits first and then int8 of a large one.

Of a large set, three passes leave fewer and fewer slots. The first counts in how many sign bits each slot
differs from the query. The second adds up the query's own numbers where the sign bits of a slot are set,
which ranks far better and needs no more memory. The third takes the int8 vectors. The query is float32 in
the last two. All slots at the last distance of the first pass are taken, so that the result does not depend
on the order of equal ones, and it is the same whether the int8 vectors come from memory or from the file.
"""

from __future__ import annotations

import sqlite3
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from edge_embed.retrieval.search.resident import Slots, View, float_blocks
from edge_embed.retrieval.store.vectors import Floats, sign_bits

EXACT_BELOW = 4096
"""Up to so many slots, scoring all of them is as fast as choosing candidates, and misses nothing."""

LEAST_DIMENSION = 64
"""Below, sign bits tell too little apart, and int8 is small enough."""

CANDIDATES, LEAST_CANDIDATES, SLOTS_A_CANDIDATE = 4, 200, 1250
"""Slots that the last pass scores: so many for each wanted hit, at least so many, and one of so many slots.

With these and `WIDER`, all-MiniLM-L6-v2 finds 99.3 % of the ten nearest of 100,000 chunks, and 98.6 % of a
million at 256 dimensions; the loss is mostly that of int8.
"""

WIDER = 5
"""The first pass leaves so many times the slots that the second leaves."""

_STRIP = 32768
"""Slots that are scanned together: what is computed of them stays in the processor's cache."""

_SAMPLE = 4096
"""Distances by which the radius is guessed, before it is counted."""

_GATHER = 8192
"""Rows that are turned into float32 together."""

Mask = npt.NDArray[np.bool_]

Scores = TypeVar("Scores", npt.NDArray[np.float32], npt.NDArray[np.int32])


def nearest(
    view: View, connection: sqlite3.Connection, query: Floats, count: int, allowed: Mask | None = None
) -> tuple[Slots, Floats]:
    """Returns the nearest slots with their cosines, best first; deleted slots are left out.

    Args:
        view: The vectors.
        connection: A connection in the view's transaction.
        query: The query at unit length, ``(dimension,)``.
        count: How many are wanted.
        allowed: Which slots may be found, ``(slots,)``; None for all.
    """
    candidates = view.slots - len(view.deleted) if allowed is None else int(np.count_nonzero(allowed))
    wanted = max(count * CANDIDATES, LEAST_CANDIDATES, view.slots // SLOTS_A_CANDIDATE)
    if candidates <= max(EXACT_BELOW, wanted * WIDER) or view.dimension < LEAST_DIMENSION:
        slots = np.flatnonzero(view.documents if allowed is None else allowed)
    else:
        slots = _near_by_signs(view, query, wanted, allowed)
    return best(slots, _scores(view, connection, query, slots), count)


def nearest_exact(
    view: View, connection: sqlite3.Connection, query: Floats, count: int, allowed: Mask | None = None
) -> tuple[Slots, Floats]:
    """Returns what `nearest` does, by the float32 vectors in the file, all of them."""
    scores = np.full(view.slots, -np.inf, np.float32)
    for first, rows in float_blocks(connection, view.dimension):
        scores[first : first + len(rows)] = rows @ query
    slots = np.flatnonzero(view.documents if allowed is None else allowed)
    return best(slots, scores[slots], count)


def best(slots: Slots, scores: Scores, count: int) -> tuple[Slots, Scores]:
    """Returns the `count` slots of the greatest scores, best first; of equal ones the lower slot first."""
    if len(slots) > count:
        last = np.partition(scores, len(scores) - count)[len(scores) - count]
        kept = np.flatnonzero(scores >= last)
        slots, scores = slots[kept], scores[kept]
    order = np.lexsort((slots, -scores))[:count]
    return slots[order], scores[order]


def _scores(view: View, connection: sqlite3.Connection, query: Floats, slots: Slots) -> Floats:
    if len(slots) <= _GATHER:
        return view.scores(query, slots, connection)
    parts = [slots[start : start + _GATHER] for start in range(0, len(slots), _GATHER)]
    return np.concatenate([view.scores(query, part, connection) for part in parts])


def _near_by_signs(view: View, query: Floats, wanted: int, allowed: Mask | None) -> Slots:
    distances = _distances(view, query)
    if allowed is not None:
        distances[~allowed] = _FAR
    elif len(view.deleted):
        distances[view.deleted] = _FAR
    slots = np.flatnonzero(distances <= _radius(distances, wanted * WIDER))
    if len(slots) <= wanted:
        return slots
    return np.sort(best(slots, _by_set_bits(view, query, slots), wanted)[0])


def _by_set_bits(view: View, query: Floats, slots: Slots) -> npt.NDArray[np.int32]:
    """Returns the sum of the query's numbers at the sign bits that are set, for some slots, ``(n,)``.

    Twice this, less the sum of all numbers, is the product of the query and the signs. The numbers are taken
    as int8, so that sums are the same in any order and on any machine.
    """
    width = -(-view.dimension // 8)
    numbers = np.zeros(width * 8, np.float32)
    numbers[: view.dimension] = np.rint(query * (127 / max(float(np.abs(query).max()), 1e-30)))
    # Eight numbers at a time: what each of the 256 bytes of signs adds up to.
    table = (_BYTE_SIGNS @ numbers.reshape(width, 8).T).astype(np.int16).T.ravel()
    by_byte = np.ascontiguousarray(view.bits[:, slots].T).view(np.uint8)[:, :width]
    places = by_byte + np.arange(0, width * 256, 256)
    sums: npt.NDArray[np.int32] = table.take(places).sum(axis=1, dtype=np.int32)
    return sums


_BYTE_SIGNS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little").astype(
    np.float32
)

_FAR = np.iinfo(np.uint16).max


def _distances(view: View, query: Floats) -> npt.NDArray[np.uint16]:
    """Returns in how many sign bits each slot differs from the query, ``(slots,)``."""
    padded = np.zeros(view.bits.shape[0] * 8, np.uint8)
    packed = sign_bits(query[None])[0]
    padded[: len(packed)] = packed
    words = padded.view("<u8")
    distances = np.empty(view.slots, np.uint16)
    differing = np.empty(_STRIP, np.uint64)
    counts = np.empty(_STRIP, np.uint8)
    for start in range(0, view.slots, _STRIP):
        total = distances[start : start + _STRIP]
        n = len(total)
        for index, word in enumerate(words):
            np.bitwise_xor(view.bits[index, start : start + n], word, out=differing[:n])
            np.bitwise_count(differing[:n], out=counts[:n])
            if index:
                np.add(total, counts[:n], out=total)
            else:
                total[:] = counts[:n]
    return distances


def _radius(distances: npt.NDArray[np.uint16], wanted: int) -> int:
    """Returns the smallest distance within which at least `wanted` slots lie."""
    sample = distances[:: max(1, len(distances) // _SAMPLE)]
    among = np.cumsum(np.bincount(sample))
    radius = int(np.searchsorted(among, wanted * len(sample) // len(distances), side="right"))
    inside = int(np.count_nonzero(distances <= radius))
    while inside < wanted:
        radius += 1
        inside = int(np.count_nonzero(distances <= radius))
    while inside > wanted:
        fewer = int(np.count_nonzero(distances <= radius - 1))
        if fewer < wanted:
            break
        radius, inside = radius - 1, fewer
    return radius
