"""The model file: a LiteRT flatbuffer followed by a stored zip with the manifest and the tokenizer.

Reading trusts nothing: every size and position is checked against the file before it is used, so a cut,
damaged or hostile file ends in a `ModelFileError`. Writing goes to a temporary name in the same
directory and is renamed when it is complete, so no reader ever sees half a file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from edge_embed.errors import ConversionError, ManifestError, ModelFileError
from edge_embed.model_file.archive import (
    REPAIR,
    Member,
    check_member,
    opened,
    read_directory,
    reason,
)
from edge_embed.model_file.manifest import Manifest
from edge_embed.model_file.open_file import OpenFile
from edge_embed.names import MANIFEST_NAME, PROBES_NAME, TFLITE_IDENTIFIER

if TYPE_CHECKING:
    from edge_embed.model_file.probes import Probe

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Identity:
    """What distinguishes a file from another at the same path, without reading it."""

    size: int
    mtime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """Returns the identity in the answer of `os.stat`."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)


class ModelFile:
    """An opened model file: its manifest, and its members on demand.

    Attributes:
        path: Its absolute path.
        manifest: The parsed manifest.
        identity: The file's identity when it was opened.
    """

    def __init__(
        self, file: OpenFile, manifest: Manifest, identity: Identity, members: dict[str, Member]
    ) -> None:
        self.path = Path(file.path)
        self.manifest = manifest
        self.identity = identity
        self._file = file
        self._members = members

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ModelFile:
        """Reads the zip's directory and the manifest. Nothing else is read and nothing is hashed.

        Raises:
            ModelFileError: If there is no such file, or it is not a model of ours, or is cut or damaged.
            ManifestError: If its manifest is malformed or of a newer schema.
        """
        absolute = Path(os.path.abspath(os.fspath(path)))
        file = OpenFile(absolute)
        identity = Identity.of(os.fstat(file.descriptor))
        with file.reader() as handle:
            members = read_directory(handle, identity.size, absolute)
        member = members[MANIFEST_NAME]
        text = check_member(file.read(member.size, member.offset), absolute, MANIFEST_NAME, member)
        try:
            manifest = Manifest.from_json(text)
        except ManifestError as error:
            raise ManifestError(
                f"{error.what} ({absolute})", got=error.got, expected=error.expected, fix=error.fix
            ) from error
        first = min(member.start for member in members.values())
        if not len(TFLITE_IDENTIFIER) + 4 <= manifest.graph.bytes <= first:
            raise ModelFileError(
                f"the graph and the zip part of {absolute} overlap",
                got=f"a graph of {manifest.graph.bytes} bytes before members from byte {first}",
                fix=REPAIR,
            )
        file.graph = manifest.graph
        return cls(file, manifest, identity, members)

    @property
    def names(self) -> list[str]:
        """The members of the zip part, in their order in the file."""
        return list(self._members)

    def read(self, name: str) -> bytes:
        """Returns a member's content, checked against its checksum.

        It comes from the file that was opened, also if another has taken its name.

        The tokenizer is also checked against the hash in the manifest.

        Raises:
            ModelFileError: If there is no such member or its content is damaged.
        """
        member = self._member(name)
        self._file.require_unchanged()
        data = check_member(self._file.read(member.size, member.offset), self.path, name, member)
        record = self.manifest.tokenizer
        if name == record.file and hashlib.sha256(data).hexdigest() != record.sha256:
            raise ModelFileError(
                f"the tokenizer in {self.path} is not the one that its manifest describes",
                got=f"sha256 {hashlib.sha256(data).hexdigest()}",
                expected=record.sha256,
                fix=REPAIR,
            )
        return data

    def verify_graph(self) -> None:
        """Hashes the graph and compares with the manifest.

        Raises:
            ModelFileError: If they differ, or the file was replaced after it was opened.
        """
        digest = self._file.hash_graph()
        self._file.require_unchanged()
        if digest != self.manifest.graph.sha256:
            raise ModelFileError(
                f"the graph in {self.path} is damaged",
                got=f"sha256 {digest}",
                expected=self.manifest.graph.sha256,
                fix=REPAIR,
            )

    def close(self) -> None:
        """Closes the file. What was read from it stays valid. Calling it again does nothing."""
        self._file.close()

    def require_unchanged(self) -> None:
        """Checks that the path still holds the file that was opened.

        Raises:
            ModelFileError: If the file was replaced, changed or removed meanwhile.
        """
        with opened(self.path) as handle:
            self._require_same(os.fstat(handle.fileno()))

    def probes(self) -> list[Probe]:
        """Returns the probes that the file was verified with; none if it carries none.

        Raises:
            ModelFileError: If they are damaged.
        """
        if PROBES_NAME not in self._members:
            return []
        from edge_embed.model_file.probes import read_probes  # not needed to embed

        try:
            probes = read_probes(self.read(PROBES_NAME))
            for index, probe in enumerate(probes):
                self._check_probe(probe, index)
        except (ValueError, RecursionError, ModelFileError) as error:
            raise ModelFileError(
                f"the probes in {self.path} are damaged", got=str(error), fix=REPAIR
            ) from error
        return probes

    def _check_probe(self, probe: Probe, index: int) -> None:
        if probe.length not in self.manifest.buckets or not 0 < len(probe.tokens) <= probe.length:
            raise ValueError(f"probe {index} has {len(probe.tokens)} tokens in bucket {probe.length}")
        if probe.vector.shape != (self.manifest.dimension,):
            raise ValueError(f"the vector of probe {index} does not have the model's dimension")

    def _member(self, name: str) -> Member:
        if name not in self._members:
            raise ModelFileError(
                f"{self.path} has no member {name!r}",
                got=", ".join(self._members),
                fix="convert the model again",
            )
        return self._members[name]

    def _require_same(self, status: os.stat_result) -> None:
        if Identity.of(status) != self.identity:
            raise ModelFileError(f"{self.path} was changed while it was in use", fix="load the model again")


def write_model_file(
    path: str | os.PathLike[str], graph: bytes | memoryview | Path, members: Mapping[str, bytes]
) -> None:
    """Writes a model file: the graph, then the members in a stored zip.

    Equal input gives equal bytes. The file appears under its name when it is complete; whatever
    interrupts the writing leaves neither half a file nor a temporary one.

    Args:
        path: The file to write; an existing one is replaced.
        graph: The flatbuffer, or a path to it.
        members: What goes into the zip, in this order.

    Raises:
        ConversionError: If the graph is not a flatbuffer or the file cannot be written.
    """
    target = Path(os.path.abspath(os.fspath(path)))
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb") as handle:
            _write_parts(handle, graph, members)
        os.replace(temporary, target)
    except OSError as error:
        _discard(temporary)
        raise ConversionError(
            f"cannot write {target}; nothing was written",
            got=reason(error),
            expected="an existing, writable directory with room for the file",
            fix="create the directory, free some space, or choose another path",
        ) from error
    except BaseException:
        _discard(temporary)
        raise


def _write_parts(handle: BinaryIO, graph: bytes | memoryview | Path, members: Mapping[str, bytes]) -> None:
    head = b""
    for chunk in _chunks(graph):
        head = head or bytes(chunk[:8])
        handle.write(chunk)
    if head[4:8] != TFLITE_IDENTIFIER:
        raise ConversionError(
            "the graph is not a LiteRT flatbuffer", got=repr(head), expected="TFL3 at offset 4"
        )
    # Mode "w" begins at the current position and counts offsets from the start of the file, so
    # a reader finds the members without knowing that anything precedes them.
    with zipfile.ZipFile(handle, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # the same bytes on every system
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    handle.flush()
    os.fsync(handle.fileno())


def _chunks(graph: bytes | memoryview | Path) -> Iterable[bytes | memoryview]:
    if isinstance(graph, Path):
        with open(graph, "rb") as source:
            while chunk := source.read(_CHUNK):
                yield chunk
    else:
        yield graph


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):  # it may never have been created
        path.unlink()
