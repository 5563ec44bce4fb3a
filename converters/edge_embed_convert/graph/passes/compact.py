"""Compact: the same graph in fewer bytes, so that another bucket adds almost nothing to the file.

A flatbuffer may refer to one vector, string or table from many places, but the usual packers write a copy for
each reference. With one signature for each bucket, that repeats every operator and the scales and zero points
of every weight: 3 MB a bucket for a vocabulary of 262144. This pass writes equal parts once.
Constants are stored after the flatbuffer, where a `Buffer` gives an offset and a size. So one constant may be
the beginning of another: the position table of a short bucket is the beginning of a longer bucket's table.
"""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt

from edge_embed.names import TFLITE_IDENTIFIER
from edge_embed_convert.graph.passes.fold_reshapes import fold_reshapes
from edge_embed_convert.graph.passes.half_tables import halve_tables
from edge_embed_convert.graph.passes.keep_batch import keep_batch
from edge_embed_convert.graph.passes.row_scales import separate_row_scales

ALIGNMENT = 64
"""Constants start at a multiple of this: a cache line, more than the 16 bytes that the TFLite schema
requires."""

INLINE_BELOW = 1024
"""Constants smaller than this, in bytes, stay inside the flatbuffer."""


def compact(graph: bytes, *, half_tables: bool = False) -> bytes:
    """Returns the graph with shared vectors and constants, row scales as data, and short tensor names.

    Args:
        graph: The flatbuffer.
        half_tables: Stores position tables in float16.
    """
    from ai_edge_litert.tools import flatbuffer_utils as utils  # loads the whole schema

    model = utils.read_model_from_bytearray(graph)
    before = [_numbered_tensors(subgraph) for subgraph in model.subgraphs]
    separate_row_scales(model)
    keep_batch(model)
    fold_reshapes(model)
    if half_tables:
        halve_tables(model)
    _renumber_signatures(model, before)
    return pack(model)


def pack(model: Any) -> bytes:
    """Returns a graph as a flatbuffer that holds equal parts once.

    Args:
        model: A TFLite `ModelT`. It is not usable afterwards.
    """
    from ai_edge_litert.tools import flatbuffer_utils as utils  # loads the whole schema

    _merge_equal_buffers(model)
    for subgraph in model.subgraphs:
        outer = {*subgraph.inputs, *subgraph.outputs}
        for index, tensor in enumerate(subgraph.tensors):
            if index not in outer:
                tensor.name = _short_name(tensor.name)
            if tensor.shape is not None:
                tensor.shape = np.asarray(tensor.shape, dtype=np.int32)  # only arrays are shared
    store = _Store()
    places = {}
    for index, buffer in enumerate(model.buffers):
        if buffer.data is not None and len(buffer.data) >= INLINE_BELOW:
            places[index] = store.place(bytes(buffer.data))
            # Placeholders that reserve space in the packed table; the true values depend on its size.
            buffer.data, buffer.offset, buffer.size = None, 1, 1
    shared: dict[bytes, _Shared] = {}
    for subgraph in model.subgraphs:
        for tables in (subgraph.tensors, subgraph.operators):
            tables[:] = [shared.setdefault(pickle.dumps(table), _Shared(table)) for table in tables]
    builder = _SharingBuilder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=TFLITE_IDENTIFIER)
    head = bytearray(builder.Output())
    start = -(-len(head) // ALIGNMENT) * ALIGNMENT
    packed = utils.Model.GetRootAs(head, 0)
    for index, place in places.items():
        utils.update_packed_buffer(packed.Buffers(index), start + store.offset(place), place.size)
    return bytes(head.ljust(start, b"\0")) + store.content()


def _numbered_tensors(subgraph: Any) -> dict[int, Any]:
    return dict(enumerate(subgraph.tensors))


def _renumber_signatures(model: Any, before: list[dict[int, Any]]) -> None:
    """Points the signatures to where their tensors are now."""
    for signature in model.signatureDefs:
        index = signature.subgraphIndex
        now = {id(tensor): number for number, tensor in enumerate(model.subgraphs[index].tensors)}
        for entry in (*signature.inputs, *signature.outputs):
            entry.tensorIndex = now[id(before[index][entry.tensorIndex])]


def _merge_equal_buffers(model: Any) -> None:
    """Points tensors of equal constant content to one buffer and drops the others."""
    kept: dict[tuple[int, bytes], int] = {}
    buffers: list[Any] = []
    moved: list[int] = []
    for buffer in model.buffers:
        empty = buffer.data is None or len(buffer.data) == 0
        # Empty buffers are never merged: a tensor without constant data refers to one of them.
        key = (-1, b"") if empty else (len(buffer.data), hashlib.blake2b(bytes(buffer.data)).digest())
        if key not in kept:
            kept[key] = len(buffers)
            buffers.append(buffer)
        moved.append(kept[key])
    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            tensor.buffer = moved[tensor.buffer]
    for entry in model.metadata or []:
        entry.buffer = moved[entry.buffer]
    model.buffers = buffers


def _short_name(name: bytes) -> bytes:
    """Cuts `pkg.EmbeddingModel/pkg.Bert_encoder/pkg.BertLayer_5/torch.nn.Linear_down;17` to `encoder/5/down`.

    Tensors of one module then share one name, and so one string in the file.
    """
    path = name.split(b";", 1)[0].split(b"/")
    return b"/".join(part.rsplit(b".", 1)[-1].partition(b"_")[2] or part for part in path[1:]) or path[0]


@dataclass(frozen=True)
class _Place:
    """A constant: the chunk of the store that begins with it, and its size."""

    chunk: int
    size: int


class _Store:
    """Constants after the flatbuffer; one that is the beginning of another shares its place."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._by_beginning: dict[bytes, list[int]] = {}

    def place(self, data: bytes) -> _Place:
        candidates = self._by_beginning.setdefault(data[:INLINE_BELOW], [])
        for chunk in candidates:
            longer, shorter = sorted((self._chunks[chunk], data), key=len, reverse=True)
            if longer.startswith(shorter):
                self._chunks[chunk] = longer
                return _Place(chunk, len(data))
        candidates.append(len(self._chunks))
        self._chunks.append(data)
        return _Place(candidates[-1], len(data))

    def offset(self, place: _Place) -> int:
        return sum(_padded(len(chunk)) for chunk in self._chunks[: place.chunk])

    def content(self) -> bytes:
        return b"".join(chunk.ljust(_padded(len(chunk)), b"\0") for chunk in self._chunks)


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class _Shared:
    """A table that is written once, however often it is referred to."""

    def __init__(self, table: Any) -> None:
        self._table, self._offset = table, 0

    def Pack(self, builder: flatbuffers.Builder) -> int:
        self._offset = self._offset or self._table.Pack(builder)
        return self._offset


class _SharingBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """A builder that returns the offset of an equal vector or string if it wrote one before."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._known: dict[tuple[str, int, bytes], int] = {}

    def CreateNumpyVector(self, x: npt.NDArray[Any]) -> int:
        key = (x.dtype.str, x.size, hashlib.blake2b(np.ascontiguousarray(x).tobytes()).digest())
        if key not in self._known:
            self._known[key] = super().CreateNumpyVector(x)
        return self._known[key]

    def CreateString(self, s: Any, *args: Any, **kwargs: Any) -> int:
        key = ("str", len(s), s.encode() if isinstance(s, str) else bytes(s))
        if key not in self._known:
            self._known[key] = super().CreateString(s, *args, **kwargs)
        return self._known[key]
