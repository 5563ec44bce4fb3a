"""The zip part of a model file: its directory, read without trusting it.

Every name, size and position is checked against the file before it is used; nothing is ever unpacked to
disk. What does not fit ends in a `ModelFileError`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from edge_embed.errors import ManifestError, ModelFileError
from edge_embed.names import MANIFEST_NAME, TFLITE_IDENTIFIER

MANIFEST_LIMIT = 16 << 20
MEMBER_LIMIT = 256 << 20
MEMBERS_LIMIT = 4096

_END_RECORD = struct.Struct("<4s4H2LH")  # the zip's end-of-central-directory record
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
REPAIR = "download or copy the file again"

# What zipfile lets out when a directory is damaged.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    EOFError,
    struct.error,
)


class Member(NamedTuple):
    """Where a member is, counted from the start of the file."""

    start: int  # of its local header
    offset: int  # of its data
    size: int
    crc: int


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Opens a model file for reading; every refusal of the system becomes a `ModelFileError`."""
    try:
        # Non-blocking, because opening a pipe would otherwise wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise ModelFileError(f"there is no model file at {path}", fix="check the path") from error
    except (OSError, ValueError) as error:
        raise ModelFileError(f"cannot open the model file {path}", got=reason(error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ModelFileError(f"{path} is not a file", expected="a .tflite file", fix="check the path")
    with os.fdopen(descriptor, "rb") as handle, reading(path):
        yield handle


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns what the system reports while a model file is read into a `ModelFileError`."""
    try:
        yield
    except OSError as error:
        raise ModelFileError(f"cannot read the model file {path}", got=reason(error)) from error


def read_directory(handle: BinaryIO, size: int, path: Path) -> dict[str, Member]:
    """Returns the members of the zip part, after checking all that can be checked without their content."""
    head = handle.read(8)
    if head[4:8] != TFLITE_IDENTIFIER:
        raise ModelFileError(
            f"{path} is not a model file",
            got="an empty file" if size == 0 else f"a file of {size} bytes that begins with {head!r}",
            expected="a LiteRT flatbuffer, TFL3 at offset 4",
        )
    handle.seek(max(size - _END_RECORD.size, 0))
    tail = handle.read(_END_RECORD.size)
    if len(tail) < _END_RECORD.size or not tail.startswith(b"PK\5\6") or not tail.endswith(b"\0\0"):
        raise ModelFileError(
            f"{path} is a LiteRT model without the zip part that edge_embed appends",
            got="a model that edge_embed did not write, or a file that was cut short",
            fix="convert the checkpoint with 'edge_embed convert', or download the file again",
        )
    try:
        with zipfile.ZipFile(handle) as archive:
            infos = archive.infolist()
    except _ZIP_ERRORS as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    if len(infos) > MEMBERS_LIMIT:
        raise _damaged(path, f"{len(infos)} members")
    members: dict[str, Member] = {}
    ranges = []
    for info in infos:
        if (problem := _suspicious(info, size)) or info.filename in members:
            raise _damaged(path, problem or f"two members are named {info.filename!r}")
        member = _locate(handle, info, size, path)
        members[info.filename] = member
        ranges.append((member.start, member.offset + member.size))
    ranges.sort()
    if any(end > start for (_, end), (start, _) in itertools.pairwise(ranges)):
        raise _damaged(path, "members that overlap")
    if MANIFEST_NAME not in members:
        raise ManifestError(
            f"{path} has a zip part without {MANIFEST_NAME}",
            got=", ".join(list(members)[:8]) or "an empty zip",
            fix="convert the checkpoint with 'edge_embed convert'",
        )
    return members


def _suspicious(info: zipfile.ZipInfo, size: int) -> str | None:
    """Returns what is wrong with a directory entry, if anything."""
    name = info.filename
    limit = MANIFEST_LIMIT if name == MANIFEST_NAME else MEMBER_LIMIT
    unsafe = (
        not name
        or name.startswith("/")
        or name.endswith("/")
        or "\\" in name
        or ".." in name.split("/")
        or re.match(r"[A-Za-z]:", name)
        or not name.isprintable()
    )
    if unsafe:
        return f"a member with the unsafe name {name!r}"
    if info.flag_bits & 0x1:
        return f"the member {name!r} is encrypted"
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        return f"the member {name!r} is compressed; ours are stored"
    if info.file_size > min(limit, size):
        return f"the member {name!r} declares {info.file_size} bytes"
    if not 0 <= info.header_offset < size:
        return f"the member {name!r} lies outside the file"
    return None


def _locate(handle: BinaryIO, info: zipfile.ZipInfo, size: int, path: Path) -> Member:
    """Returns where a member's data are, from its local header."""
    handle.seek(info.header_offset)
    raw = handle.read(_LOCAL_HEADER.size)
    if len(raw) < _LOCAL_HEADER.size or not raw.startswith(b"PK\3\4"):
        raise _damaged(path, f"no local header for the member {info.filename!r}")
    name_length, extra_length = _LOCAL_HEADER.unpack(raw)[-2:]
    offset = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    if handle.read(name_length) != info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437"):
        raise _damaged(path, f"two different names for the member {info.filename!r}")
    if offset + info.file_size > size:
        raise _damaged(path, f"the member {info.filename!r} lies outside the file")
    return Member(info.header_offset, offset, info.file_size, info.CRC)


def check_member(data: bytes, path: Path, name: str, member: Member) -> bytes:
    """Returns a member's data after checking them against its checksum."""
    if len(data) != member.size or zlib.crc32(data) != member.crc:
        raise _damaged(path, f"the content of {name!r} does not match its checksum")
    return data


def _damaged(path: Path, got: str) -> ModelFileError:
    return ModelFileError(f"the zip part of {path} is damaged", got=got, fix=REPAIR)


def reason(error: OSError | ValueError) -> str:
    """Returns what the system said, without the path that the message names already."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
