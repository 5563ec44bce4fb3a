"""Vectors as the file holds them: sign bits, int8 with a scale, float32; in blocks with a checksum.

A block of `signs` is ``int32[n]`` documents followed by ``uint8[n, ceil(d / 8)]`` sign bits, where the bit of
dimension ``i`` is bit ``i % 8`` of byte ``i // 8`` and is set for a positive number. A block of `codes` is
``float32[n]`` scales followed by ``int8[n, d]``; a block of `floats` is ``float32[n, d]``. Everything is
little-endian; a block that is not full has a smaller ``n``. The checksum is zlib's CRC-32 of the block.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_embed.errors import IndexFileError
from edge_embed.retrieval.store.schema import PAGE_BYTES

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int8]
Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int32]

SIGN_BLOCK = 256
FLOAT_BLOCK = 16

_ROOM = PAGE_BYTES - 35 - 24
"""Bytes of a row that SQLite keeps on one page, less what the row's other columns and its header take."""

_FLOAT, _INTEGER = np.dtype("<f4"), np.dtype("<i4")


def codes_in_block(dimension: int) -> int:
    """Returns how many int8 vectors a block holds: as many as fit one page, so that a read is one page."""
    return max(1, _ROOM // (dimension + _FLOAT.itemsize))


def checksum(data: bytes) -> int:
    """Returns the CRC-32 of a block."""
    return zlib.crc32(data)


def unit_rows(vectors: npt.ArrayLike, dimension: int) -> Floats:
    """Returns vectors cut to their first `dimension` numbers, each at unit length; zeros stay zeros."""
    rows = np.atleast_2d(np.asarray(vectors, np.float32))[:, :dimension]
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    unit: Floats = (rows / np.maximum(norms, 1e-30)).astype(np.float32)
    return unit


def sign_bits(rows: Floats) -> Bytes:
    """Returns the packed sign bits of float vectors, ``(n, ceil(d / 8))``."""
    return np.packbits(rows > 0, axis=1, bitorder="little")


def quantize(rows: Floats) -> tuple[Floats, Codes]:
    """Returns scales ``(n,)`` and int8 codes ``(n, d)`` with ``scale * code`` close to each vector.

    Each vector has its own scale, so that its greatest number becomes 127.
    """
    scales = (np.abs(rows).max(axis=1, initial=0.0) / 127).astype(np.float32)
    steps = np.where(scales > 0, scales, 1)[:, None]
    return scales, np.rint(rows / steps).astype(np.int8)


@dataclass(frozen=True)
class SignBlock:
    """The content of a block of `signs`: documents ``(n,)`` and bits ``(n, ceil(d / 8))``."""

    documents: Integers
    bits: Bytes

    def pack(self) -> bytes:
        """Returns the block's bytes."""
        return self.documents.astype(_INTEGER).tobytes() + self.bits.tobytes()

    @classmethod
    def unpack(cls, data: bytes, dimension: int) -> SignBlock:
        """Reads a block; a length that does not fit raises `ValueError`."""
        width = (dimension + 7) // 8
        count = _count(data, _INTEGER.itemsize + width)
        documents = np.frombuffer(data, _INTEGER, count)
        bits = np.frombuffer(data, np.uint8, offset=documents.nbytes).reshape(count, width)
        return cls(documents.astype(np.int32), bits)


@dataclass(frozen=True)
class CodeBlock:
    """The content of a block of `codes`: scales ``(n,)`` and int8 vectors ``(n, d)``."""

    scales: Floats
    codes: Codes

    def pack(self) -> bytes:
        """Returns the block's bytes."""
        return self.scales.astype(_FLOAT).tobytes() + self.codes.tobytes()

    def padded(self, size: int) -> CodeBlock:
        """Returns the block with zeros up to `size` vectors."""
        missing = size - len(self.scales)
        return CodeBlock(np.pad(self.scales, (0, missing)), np.pad(self.codes, ((0, missing), (0, 0))))

    @classmethod
    def unpack(cls, data: bytes, dimension: int) -> CodeBlock:
        """Reads a block; a length that does not fit raises `ValueError`."""
        count = _count(data, _FLOAT.itemsize + dimension)
        scales = np.frombuffer(data, _FLOAT, count)
        codes = np.frombuffer(data, np.int8, offset=scales.nbytes).reshape(count, dimension)
        return cls(scales, codes)


def unpack_floats(data: bytes, dimension: int) -> Floats:
    """Reads a block of `floats`; a length that does not fit raises `ValueError`."""
    return np.frombuffer(data, _FLOAT).reshape(-1, dimension)


def require_intact(table: str, block: int, data: bytes, expected: int) -> None:
    """Checks a block against its checksum.

    Raises:
        IndexFileError: If they differ.
    """
    if (got := zlib.crc32(data)) != expected:
        raise damaged_block(table, block, f"checksum {got:#010x}, stored is {expected:#010x}")


def damaged_block(table: str, block: int, got: str) -> IndexFileError:
    """Returns the error for a block whose bytes are not what was written."""
    return IndexFileError(
        f"the vectors of the index are damaged: block {block} of {table}",
        got=got,
        expected="the bytes that were written",
        fix="restore the file from a backup, or compute all vectors again with Index.reindex()",
    )


def _count(data: bytes, item: int) -> int:
    count, remainder = divmod(len(data), item)
    if remainder:
        raise ValueError(f"{len(data)} bytes are not a multiple of {item}")
    return count
