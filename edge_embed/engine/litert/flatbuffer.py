"""Reads the signatures of a LiteRT flatbuffer, and removes all of them but one.

A flatbuffer's lists are vectors of offsets. Writing a count and an offset into two of them leaves one
signature and its subgraph; nothing moves. Operators name constants by their place in the model's list of
buffers, which stays whole, so graphs made from one file in this way share its packed weights.
Field numbers are those of the published schema (tflite/schema/schema.fbs).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from edge_embed.errors import ModelFileError
from edge_embed.model_file.archive import opened
from edge_embed.names import TFLITE_IDENTIFIER

Bytes = bytearray | mmap.mmap

MODEL_SUBGRAPHS = 2
_MODEL_SIGNATURES = 7
_SIGNATURE_INPUTS, _SIGNATURE_OUTPUTS, _SIGNATURE_KEY, _SIGNATURE_SUBGRAPH = 0, 1, 2, 4
_MAP_NAME, _MAP_TENSOR = 0, 1
_GRAPH_TENSORS = 0
_TENSOR_SHAPE, _TENSOR_TYPE = 0, 1
_TYPES = {0: "float32", 2: "int32"}

Tensors = dict[str, tuple[str, list[int]]]
"""Type and shape of tensors by name."""


class Signature(NamedTuple):
    """One entry point of a flatbuffer.

    Attributes:
        inputs: What it takes.
        outputs: What it gives.
    """

    inputs: Tensors
    outputs: Tensors


def mapped(path: str | os.PathLike[str] | int, size: int | None = None) -> mmap.mmap:
    """Maps a flatbuffer into private memory: writing there does not change the file.

    Args:
        path: The file, or a descriptor of it.
        size: The flatbuffer's size in bytes; by default the file's.

    Raises:
        ModelFileError: If the file cannot be mapped or is not a flatbuffer.
    """
    try:
        if isinstance(path, int):
            data = mmap.mmap(path, size or 0, access=mmap.ACCESS_COPY)
        else:
            with opened(path) as handle:
                data = mmap.mmap(handle.fileno(), size or 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:  # an empty file, or one that was cut meanwhile
        raise ModelFileError("a LiteRT flatbuffer cannot be mapped", got=f"{path}: {error}") from error
    if data[4:8] != TFLITE_IDENTIFIER:
        raise ModelFileError(f"{path} is not a LiteRT flatbuffer", got=repr(data[:8]))
    return data


def signatures(data: Bytes) -> dict[str, Signature]:
    """Returns a flatbuffer's signatures by name.

    Raises:
        ModelFileError: If it is damaged.
    """
    with _damage():
        return {name: _signature(data, table) for name, table in _signatures(data)}


def keep_only(data: Bytes, name: str) -> None:
    """Removes every signature but one from a flatbuffer, and every subgraph but its own.

    Raises:
        ModelFileError: If there is no such signature, or the flatbuffer is damaged.
    """
    with _damage():
        table = dict(_signatures(data)).get(name)
        if table is None:
            raise ModelFileError(f"the graph has no signature {name}", fix="convert the model again")
        number = field(data, table, _SIGNATURE_SUBGRAPH)
        graphs = vector(data, root(data), MODEL_SUBGRAPHS)
        place = graphs[u32(data, number) if number else 0]
        _keep_one(data, graphs, place + u32(data, place))
        _keep_one(data, vector(data, root(data), _MODEL_SIGNATURES), table)
        if number:
            struct.pack_into("<I", data, number, 0)


def _keep_one(data: Bytes, places: range, table: int) -> None:
    """Makes a table the only element of a vector of tables."""
    # The count stands ahead of the elements; an offset counts from its own place.
    struct.pack_into("<II", data, places[0] - 4, 1, table - places[0])


def _signatures(data: Bytes) -> Iterator[tuple[str, int]]:
    for place in vector(data, root(data), _MODEL_SIGNATURES):
        table = place + u32(data, place)
        yield _text(data, field(data, table, _SIGNATURE_KEY)), table


def _signature(data: Bytes, table: int) -> Signature:
    number = field(data, table, _SIGNATURE_SUBGRAPH)
    place = vector(data, root(data), MODEL_SUBGRAPHS)[u32(data, number) if number else 0]
    tensors = vector(data, place + u32(data, place), _GRAPH_TENSORS)

    def named(entries: int) -> Tensors:
        found = {}
        for place in vector(data, table, entries):
            entry = place + u32(data, place)
            number = field(data, entry, _MAP_TENSOR)
            tensor = tensors[u32(data, number) if number else 0]
            found[_text(data, field(data, entry, _MAP_NAME))] = _tensor(data, tensor + u32(data, tensor))
        return found

    return Signature(named(_SIGNATURE_INPUTS), named(_SIGNATURE_OUTPUTS))


def _tensor(data: Bytes, table: int) -> tuple[str, list[int]]:
    kind = field(data, table, _TENSOR_TYPE)
    code = data[kind] if kind else 0
    return _TYPES.get(code, f"type {code}"), [u32(data, p) for p in vector(data, table, _TENSOR_SHAPE)]


def _text(data: Bytes, place: int | None) -> str:
    if place is None:
        return ""
    start = place + u32(data, place)
    return bytes(data[start + 4 : start + 4 + u32(data, start)]).decode("utf-8")


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    try:
        yield
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ModelFileError("the flatbuffer is damaged", got=str(error)) from error


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
