"""The graph in the form that LiteRT's GPU delegate reads correctly: a scale for every row of a table.

Our files keep the row scales of a quantized table in a constant of its own. To the format the table itself
then has one scale. The CPU reads it so. The GPU delegate (seen with LiteRT 2.3, WebGPU) takes any list of
scales for one scale per row, so it returns zeros for every row but the first, without an error. Here such a
table gets its one scale repeated for every row: a list at the end of the graph, and eight bytes that point
there. The file itself does not have this list, because on the CPU LiteRT copies it for every bucket.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from edge_embed.engine.litert.flatbuffer import MODEL_SUBGRAPHS, field, root, u32, vector
from edge_embed.errors import ModelFileError
from edge_embed.model_file.archive import opened

if TYPE_CHECKING:
    from edge_embed.engine.litert.flatbuffer import Bytes

# Field numbers of the published schema (tflite/schema/schema.fbs).
_MODEL_OPERATOR_CODES = 1
_CODE_DEPRECATED, _CODE_BUILTIN = 0, 3
_GRAPH_TENSORS, _GRAPH_OPERATORS = 0, 3
_OPERATOR_CODE, _OPERATOR_INPUTS = 0, 1
_TENSOR_SHAPE, _TENSOR_QUANTIZATION = 0, 4
_QUANTIZATION_SCALE, _QUANTIZATION_ZERO_POINT, _QUANTIZATION_DETAILS = 2, 3, 4
_EMBEDDING_LOOKUP = 7


def read_graph(path: str | os.PathLike[str], size: int) -> bytes:
    """Returns the flatbuffer at the start of a model file, with a scale for every row of its tables.

    Args:
        path: The model file.
        size: The flatbuffer's size in bytes.

    Raises:
        ModelFileError: If it cannot be read or is damaged.
    """
    with opened(path) as handle:
        try:
            with mmap.mmap(handle.fileno(), size, access=mmap.ACCESS_READ) as data:
                return _rewritten(data, size)
        except (struct.error, IndexError, ValueError) as error:
            raise ModelFileError(f"the flatbuffer in {os.fspath(path)} is damaged", got=str(error)) from error


def _rewritten(data: mmap.mmap, size: int) -> bytes:
    places = list(_single_scales(data))
    # Everything that is changed lies ahead of the constants, so that only that part is copied twice.
    head = bytearray(data[: max((max(p) + 4 for *p, _, _ in places), default=0)])
    tail = bytearray()
    lists: dict[tuple[int, float], tuple[int, int]] = {}
    for scale_at, zero_at, rows, scale in places:
        if (rows, scale) not in lists:
            scales, zeros = _vectors(rows, scale)
            tail += bytes(-(size + len(tail)) % 4)
            at = size + len(tail)
            tail += scales
            # The elements of the second list must be at a multiple of eight, after four bytes of length.
            tail += bytes((4 - size - len(tail)) % 8)
            lists[rows, scale] = at, size + len(tail)
            tail += zeros
        for place, target in zip((scale_at, zero_at), lists[rows, scale], strict=True):
            struct.pack_into("<I", head, place, target - place)
    with memoryview(data) as view, view[len(head) :] as rest:
        return b"".join((head, rest, tail))


def _single_scales(data: Bytes) -> Iterator[tuple[int, int, int, float]]:
    """Yields, of each looked-up table: where it names scales and zero points, its rows, its only scale."""
    model = root(data)
    lookups = {
        i for i, code in enumerate(_tables(data, model, _MODEL_OPERATOR_CODES)) if _is_lookup(data, code)
    }
    for graph in _tables(data, model, MODEL_SUBGRAPHS):
        tensors = vector(data, graph, _GRAPH_TENSORS)
        for operator in _tables(data, graph, _GRAPH_OPERATORS):
            code = field(data, operator, _OPERATOR_CODE)
            if (u32(data, code) if code else 0) not in lookups:
                continue
            place = tensors[u32(data, vector(data, operator, _OPERATOR_INPUTS)[1])]
            table = place + u32(data, place)
            quantization = field(data, table, _TENSOR_QUANTIZATION)
            if quantization is None:
                continue
            quantization += u32(data, quantization)
            scale_at = field(data, quantization, _QUANTIZATION_SCALE)
            zero_at = field(data, quantization, _QUANTIZATION_ZERO_POINT)
            if scale_at is None or zero_at is None or field(data, quantization, _QUANTIZATION_DETAILS):
                continue
            rows = u32(data, vector(data, table, _TENSOR_SHAPE)[0])
            scales = vector(data, quantization, _QUANTIZATION_SCALE)
            if len(scales) == 1 and rows > 1:
                yield scale_at, zero_at, rows, struct.unpack_from("<f", data, scales[0])[0]


def _tables(data: Bytes, table: int, number: int) -> Iterator[int]:
    for place in vector(data, table, number):
        yield place + u32(data, place)


def _is_lookup(data: Bytes, code: int) -> bool:
    # Codes above 127 are in the newer field, others may be in either.
    old, new = field(data, code, _CODE_DEPRECATED), field(data, code, _CODE_BUILTIN)
    return max(data[old] if old else 0, u32(data, new) if new else 0) == _EMBEDDING_LOOKUP


def _vectors(rows: int, scale: float) -> tuple[bytes, bytes]:
    """Returns a vector of equal scales and one of zeros, as the format writes them."""
    length = struct.pack("<I", rows)
    return length + np.full(rows, scale, dtype="<f4").tobytes(), length + bytes(8 * rows)
