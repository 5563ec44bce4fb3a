"""Just enough of the LiteRT flatbuffer to make another signature's graph the first one.

LiteRT lists the operators of the first subgraph only. The subgraphs hang on a vector of offsets, so two
of them change places by writing eight bytes; nothing is parsed but that vector and the signatures.
Field numbers are those of the published schema (tflite/schema/schema.fbs).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge_embed._archive import IDENTIFIER, opened
from edge_embed.errors import ModelFileError

if TYPE_CHECKING:
    import mmap

    Bytes = bytearray | mmap.mmap

MODEL_SUBGRAPHS = 2
_MODEL_SIGNATURES = 7
_SIGNATURE_KEY = 2
_SIGNATURE_SUBGRAPH = 4


def with_primary(path: str | os.PathLike[str], signature: str) -> bytes:
    """Returns a flatbuffer's bytes with the graph of `signature` as its first subgraph.

    Only good for looking at that graph: the signatures still name the old places.

    Raises:
        ModelFileError: If the file is no flatbuffer or has no such signature.
    """
    with opened(os.fspath(path)) as handle:
        data = bytearray(handle.read())
    if data[4:8] != IDENTIFIER:
        raise ModelFileError(f"{os.fspath(path)} is not a LiteRT flatbuffer", got=repr(bytes(data[:8])))
    try:
        index = dict(_signatures(data)).get(signature)
        if index is None:
            raise ModelFileError(f"{os.fspath(path)} has no signature {signature}")
        first = vector(data, root(data), MODEL_SUBGRAPHS)[0]
        other = vector(data, root(data), MODEL_SUBGRAPHS)[index]
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ModelFileError(f"the flatbuffer in {os.fspath(path)} is damaged", got=str(error)) from error
    if first != other:
        # Offsets count from their own place.
        targets = first + u32(data, first), other + u32(data, other)
        struct.pack_into("<I", data, first, targets[1] - first)
        struct.pack_into("<I", data, other, targets[0] - other)
    return bytes(data)


def _signatures(data: Bytes) -> Iterator[tuple[str, int]]:
    for place in vector(data, root(data), _MODEL_SIGNATURES):
        table = place + u32(data, place)
        key = field(data, table, _SIGNATURE_KEY)
        if key is not None:
            start = key + u32(data, key)
            name = bytes(data[start + 4 : start + 4 + u32(data, start)]).decode("utf-8")
            subgraph = field(data, table, _SIGNATURE_SUBGRAPH)
            yield name, 0 if subgraph is None else u32(data, subgraph)


def root(data: Bytes) -> int:
    """Returns the place of the outermost table."""
    return u32(data, 0)


def vector(data: Bytes, table: int, number: int) -> range:
    """Returns the places of a vector's elements, which have four bytes each."""
    place = field(data, table, number)
    if place is None:
        return range(0)
    start = place + u32(data, place)
    return range(start + 4, start + 4 + 4 * u32(data, start), 4)


def field(data: Bytes, table: int, number: int) -> int | None:
    """Returns the place of a table's field, or None if it has its default."""
    entries = table - struct.unpack_from("<i", data, table)[0]
    position = 4 + 2 * number
    if position >= struct.unpack_from("<H", data, entries)[0]:
        return None
    offset: int = struct.unpack_from("<H", data, entries + position)[0]
    return table + offset if offset else None


def u32(data: Bytes, place: int) -> int:
    """Returns the unsigned number at a place."""
    value: int = struct.unpack_from("<I", data, place)[0]
    return value
