"""Just enough of the LiteRT flatbuffer to make another signature's graph the first one.

LiteRT lists the operators of the first subgraph only. The subgraphs hang on a vector of offsets, so two
of them change places by writing eight bytes; nothing is parsed but that vector and the signatures.
Field numbers are those of the published schema (tflite/schema/schema.fbs).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from edge_embed._archive import IDENTIFIER, opened
from edge_embed.errors import ModelFileError

_MODEL_SUBGRAPHS = 2
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
        first = _vector(data, _root(data), _MODEL_SUBGRAPHS)[0]
        other = _vector(data, _root(data), _MODEL_SUBGRAPHS)[index]
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ModelFileError(f"the flatbuffer in {os.fspath(path)} is damaged", got=str(error)) from error
    if first != other:
        # Offsets count from their own place.
        targets = first + _u32(data, first), other + _u32(data, other)
        struct.pack_into("<I", data, first, targets[1] - first)
        struct.pack_into("<I", data, other, targets[0] - other)
    return bytes(data)


def _signatures(data: bytearray) -> Iterator[tuple[str, int]]:
    for place in _vector(data, _root(data), _MODEL_SIGNATURES):
        table = place + _u32(data, place)
        key = _field(data, table, _SIGNATURE_KEY)
        if key is not None:
            start = key + _u32(data, key)
            name = bytes(data[start + 4 : start + 4 + _u32(data, start)]).decode("utf-8")
            subgraph = _field(data, table, _SIGNATURE_SUBGRAPH)
            yield name, 0 if subgraph is None else _u32(data, subgraph)


def _root(data: bytearray) -> int:
    return _u32(data, 0)


def _vector(data: bytearray, table: int, field: int) -> range:
    """Returns the places of a vector's offsets."""
    place = _field(data, table, field)
    if place is None:
        return range(0)
    start = place + _u32(data, place)
    return range(start + 4, start + 4 + 4 * _u32(data, start), 4)


def _field(data: bytearray, table: int, field: int) -> int | None:
    """Returns the place of a table's field, or None if it has its default."""
    entries = table - struct.unpack_from("<i", data, table)[0]
    position = 4 + 2 * field
    if position >= struct.unpack_from("<H", data, entries)[0]:
        return None
    offset: int = struct.unpack_from("<H", data, entries + position)[0]
    return table + offset if offset else None


def _u32(data: bytearray, place: int) -> int:
    value: int = struct.unpack_from("<I", data, place)[0]
    return value
