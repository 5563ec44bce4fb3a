"""Texts of an iterator to vectors, in order, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from edge_embed.model_file.manifest import Vector
from edge_embed.text.inputs import check_text
from edge_embed.text.tally import Tally, counted_in
from edge_embed.warn import warn_of


def stream(texts: Iterable[str], encode: Callable[[list[str], int], Vector], ahead: int) -> Iterator[Vector]:
    """Yields the vector of each text, in order.

    The texts are read in the caller's thread: what they come from, such as a database cursor, may belong to
    it.

    Args:
        texts: The texts.
        encode: Embeds a list of them; the second argument is the number of the first one, for messages.
        ahead: How many are read and embedded before the first of them is yielded.

    Raises:
        InputError: If an item is not a usable text.
    """
    source, first, total = iter(texts), 0, Tally()
    try:
        while part := list(islice(source, ahead)):
            for offset, text in enumerate(part):
                check_text(text, first + offset)
            with counted_in(total):
                vectors = encode(part, first)
            for vector in vectors:
                yield vector.copy()  # a view would keep the vectors of the whole part
            first += len(part)
    finally:
        warn_of(total)
