"""Nearest vectors: all int8 vectors of a small set, sign bits first and then int8 of a large one.

Of a large set, three passes leave fewer and fewer slots. The first counts in how many sign bits each slot
differs from the query. The second adds up the query's own numbers where the sign bits of a slot are set,
which ranks far better and needs no more memory. The third takes the int8 vectors. The query is whole numbers
of few bits in the second and float32 in the third. All slots at the last distance of the first pass are
taken, so that the result does not depend on the order of equal ones, and it is the same whether the int8
vectors come from memory or from the file.
"""

from __future__ import annotations

import sqlite3

import numpy as np
import numpy.typing as npt

from edge_embed.retrieval.search.resident import Slots, View, float_blocks
from edge_embed.retrieval.store.vectors import Floats, sign_bits

EXACT_BELOW = 4096
"""Up to this number of slots, scoring all of them is as fast as choosing candidates, and misses nothing."""

LEAST_DIMENSION = 64
"""Below, sign bits tell too little apart, and int8 is small enough."""

CANDIDATES, LEAST_CANDIDATES, SLOTS_A_CANDIDATE = 12, 600, 400
"""Slots that the last pass scores: for each wanted hit, at least, and one for each such number of slots.

With these and `WIDER`, all-MiniLM-L6-v2 finds 99.0 % of the ten nearest of 100,000 chunks where questions and
chunks are of different sources, and 98.6 % of a million at 256 dimensions; the loss is mostly that of int8.
"""

WIDER = 6
"""How many times more slots the first pass leaves than the second."""

_STRIP = 32768
"""Slots that are scanned together: what is computed of them stays in the processor's cache."""

_WORDS_A_BYTE = 3
"""Words of 64 signs whose counts are added up in a byte, which is faster than in two."""

_TAKEN = 4096
"""Slots whose sign bits are copied together, so that the copy stays in the processor's cache."""

_BIT_VALUES = (1, 2, 4, 8, -16)
"""What the bits of one of the query's numbers are worth in the second pass, the lowest first.

With eight bits no more of the ten nearest are found, and the pass takes longer.
"""

_GREATEST_NUMBER = sum(_BIT_VALUES[:-1])

_SAMPLE = 4096
"""Distances by which the greatest distance is guessed, before it is counted among those within."""

_MARGIN = 1.5
"""The guess is made for this many times the wanted slots, so that it seldom leaves too few."""

_GATHER = 8192
"""Rows that are turned into float32 together."""

Mask = npt.NDArray[np.bool_]


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


def best(slots: Slots, scores: Floats, count: int) -> tuple[Slots, Floats]:
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
    slots = _within(distances, wanted * WIDER)
    if len(slots) <= wanted:
        return slots
    return np.sort(best(slots, _by_set_bits(view, query, slots), wanted)[0])


def _by_set_bits(view: View, query: Floats, slots: Slots) -> Floats:
    """Returns the sum of the query's numbers at the sign bits that are set, for some slots, ``(n,)``.

    Twice this, less the sum of all numbers, is the product of the query and the signs. The numbers are whole
    ones of few bits, and all of them are taken bit by bit: how many of these bits meet a set sign bit, times
    the bit's value. So no sign is unpacked, and sums are the same in any order and on any machine.
    """
    numbers = np.zeros(view.bits.shape[0] * 64, np.int8)
    greatest = max(float(np.abs(query).max()), 1e-30)
    numbers[: view.dimension] = np.rint(query * (_GREATEST_NUMBER / greatest))
    bits = np.unpackbits(numbers.view(np.uint8)[None], axis=0, bitorder="little", count=len(_BIT_VALUES))
    words = np.packbits(bits, axis=1, bitorder="little").view("<u8")
    sums = np.zeros(len(slots), np.int32)
    for start in range(0, len(slots), _TAKEN):
        part = view.bits.take(slots[start : start + _TAKEN], axis=1)
        met, counts = np.empty_like(part), np.empty(part.shape, np.uint8)
        total = sums[start : start + _TAKEN]
        for word, value in zip(words, _BIT_VALUES, strict=True):
            np.bitwise_and(part, word[:, None], out=met)
            np.bitwise_count(met, out=counts)
            total += value * counts.sum(0, dtype=np.int32)
    return sums.astype(np.float32)  # whole numbers of this size stay exact


_FAR = np.iinfo(np.uint16).max
"""The distance of a slot that must not be found."""

_MOST_DISTANCE = 2**13
"""Above this, distances of the sample count as one, so that counting them takes little memory."""


def _distances(view: View, query: Floats) -> npt.NDArray[np.uint16]:
    """Returns in how many sign bits each slot differs from the query, ``(slots,)``."""
    padded = np.zeros(view.bits.shape[0] * 8, np.uint8)
    packed = sign_bits(query[None])[0]
    padded[: len(packed)] = packed
    words = padded.view("<u8")
    distances = np.empty(view.slots, np.uint16)
    differing = np.empty(_STRIP, np.uint64)
    counts = np.empty((2, _STRIP), np.uint8)
    for start in range(0, view.slots, _STRIP):
        total = distances[start : start + _STRIP]
        n = len(total)
        for first in range(0, len(words), _WORDS_A_BYTE):
            for index in range(first, min(first + _WORDS_A_BYTE, len(words))):
                np.bitwise_xor(view.bits[index, start : start + n], words[index], out=differing[:n])
                # The first count of a group is where the others are added.
                of_word = counts[int(index > first), :n]
                np.bitwise_count(differing[:n], out=of_word)
                if index > first:
                    np.add(counts[0, :n], of_word, out=counts[0, :n])
            if first:
                np.add(total, counts[0, :n], out=total)
            else:
                total[:] = counts[0, :n]
    return distances


def _within(distances: npt.NDArray[np.uint16], wanted: int) -> Slots:
    """Returns the slots within the smallest distance that leaves at least `wanted`, in rising order."""
    sample = np.minimum(distances[:: max(1, len(distances) // _SAMPLE)], _MOST_DISTANCE)
    among = np.cumsum(np.bincount(sample))
    guess = int(np.searchsorted(among, _MARGIN * wanted * len(sample) / len(distances), side="right"))
    while len(near := np.flatnonzero(distances <= guess)) < wanted:
        guess += 1
    found = distances[near]
    radius = int(np.searchsorted(np.cumsum(np.bincount(found)), wanted))
    return near[found <= radius]
