"""Packed weights on disk, so that processes share them and a warm load packs nothing.

An entry is a record, `KEY.json`, and the weights file that it names. The key holds everything that packed
weights depend on: the graph's hash, LiteRT's build and the processor. A weights file is built under a name
of its own and never written again. It becomes the current one when the record is replaced, which is one step.
So two processes that build at the same time each use their own file, and the later record stays.

The record also remembers which files on this disk were hashed and found to hold that graph, and the
exact answer to the probe, which a flipped bit in the weights changes even where a cosine does not show it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from edge_embed.engine.cache_directory import (
    default_directory,
    distrust,
    evict,
    packing_lock,
    size_limit,
    sweep,
)
from edge_embed.engine.cpu import CpuEngine
from edge_embed.engine.litert.installed import library_version
from edge_embed.engine.packed_weights import IN_MEMORY
from edge_embed.errors import EdgeEmbedError, WeightCacheWarning
from edge_embed.model_file.file import Identity, ModelFile
from edge_embed.model_file.manifest import Manifest, Vector, decode_vector, encode_vector
from edge_embed.model_file.schema import from_json, to_json
from edge_embed.proof.self_check import check, run_probe
from edge_embed.warn import warn

RECORD_SCHEMA = 1
FILES_KEPT = 16
"""How many verified files one record remembers."""

_RECORD_LIMIT = 4 << 20


@dataclass(frozen=True)
class Record:
    """What is known about one entry.

    Attributes:
        weights: Name of the weights file in the same directory.
        state: The weights file's identity when it was finished.
        answer: The probe's exact answer, as `encode_vector` writes it.
        files: Model files that were hashed and hold this graph, oldest first.
        schema: The version of this record.
        model: The model's name, for lists of the cache.
    """

    weights: str
    state: Identity
    answer: str
    files: list[Identity]
    schema: int = RECORD_SCHEMA
    model: str = ""


def entry_key(manifest: Manifest) -> str:
    """Returns the key of a model's packed weights on this machine with this LiteRT."""
    graph, probe = manifest.graph, manifest.self_check.tokens  # the record holds the answer to that probe
    facts = [graph.sha256, graph.bytes, probe, library_version(), platform.machine(), _processor()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def open_engine(file: ModelFile, num_threads: int, weight_cache: str | Path, self_check: bool) -> CpuEngine:
    """Returns a graph that is ready to run, from packed weights on disk where that is possible.

    Args:
        file: The model file.
        num_threads: Threads of the delegate.
        weight_cache: "auto", "memory", or a directory.
        self_check: Whether the graph must reproduce the probe.

    Raises:
        ModelFileError: If the graph is damaged.
        SelfCheckError: If a freshly packed graph does not reproduce the probe.
    """
    if weight_cache == "memory":
        return _open_in_memory(file, num_threads, self_check)
    directory = default_directory() if weight_cache == "auto" else Path(weight_cache)
    if directory is None:
        _warn_unkept("no home directory", None)
        return _open_in_memory(file, num_threads, self_check)
    if reason := distrust(directory):
        _warn_once(directory, reason)
        return _open_in_memory(file, num_threads, self_check)
    limit = size_limit()
    entry = Entry(directory, entry_key(file.manifest), file.manifest.name)
    sweep(directory)
    engine = _open_cached(entry, file, num_threads, self_check)
    if engine is not None:
        return engine
    with contextlib.suppress(OSError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with packing_lock(directory):
        # Another process may have packed these weights while this one waited.
        engine = _open_cached(entry, file, num_threads, self_check)
        engine = engine or _open_and_pack(entry, file, num_threads, self_check)
    if limit is not None:
        evict(directory, limit, keep=entry.key)
    return engine


def _open_in_memory(file: ModelFile, num_threads: int, self_check: bool, verified: bool = False) -> CpuEngine:
    if self_check and not verified:
        file.verify_graph()
    engine = CpuEngine(file.path, file.manifest, num_threads, IN_MEMORY)
    return _proved(engine, file, self_check)


def _open_cached(entry: Entry, file: ModelFile, num_threads: int, self_check: bool) -> CpuEngine | None:
    """Returns a graph over the entry's weights, or None if there is no entry or it is damaged."""
    record = entry.load()
    if record is None:
        return None
    verified = file.identity in record.files
    if not verified:
        file.verify_graph()
    weights = entry.directory / record.weights
    engine = None
    try:
        engine = CpuEngine(file.path, file.manifest, num_threads, str(weights))
        answer = _answer(engine, file, self_check)
    except (
        EdgeEmbedError
    ):  # a damaged cache can raise any error; with fresh weights it appears again if it is another's
        if engine is not None:
            engine.close()
        entry.drop(record)
        return None
    # Same kernels, same machine, same weights: anything but the very same bits means damage. LiteRT packs
    # again in place where it notices damage itself; a file that others may have mapped must not change.
    if encode_vector(answer) != record.answer or not entry.intact(record):
        engine.close()
        entry.drop(record)
        return None
    file.require_unchanged()
    if not verified:
        # If the record cannot be written, the next load hashes the file again, which only takes time.
        with contextlib.suppress(OSError):
            entry.store(dataclasses.replace(record, files=[*record.files, file.identity][-FILES_KEPT:]))
    else:
        entry.mark_used()
    return engine


def _open_and_pack(entry: Entry, file: ModelFile, num_threads: int, self_check: bool) -> CpuEngine:
    """Packs the weights into a new entry, or into memory where the directory cannot be written."""
    file.verify_graph()
    try:
        weights = entry.reserve()
    except OSError as error:
        _warn_unkept(error.strerror or str(error), entry.directory)
        return _open_in_memory(file, num_threads, self_check, verified=True)
    engine = None
    try:
        engine = CpuEngine(file.path, file.manifest, num_threads, str(weights))
        answer = _answer(engine, file, self_check)
        file.require_unchanged()
        try:
            entry.commit(weights, answer, file.identity)
        except OSError as error:
            _warn_unkept(error.strerror or str(error), entry.directory)
            _discard(weights)  # this process has mapped it and goes on using it
    except BaseException:
        if engine is not None:
            engine.close()
        _discard(weights)
        raise
    return engine


def _answer(engine: CpuEngine, file: ModelFile, self_check: bool) -> Vector:
    """Returns the answer to the probe, which later loads compare, also without a self-check."""
    return check(engine, file.manifest) if self_check else run_probe(engine, file.manifest)


def _proved(engine: CpuEngine, file: ModelFile, self_check: bool) -> CpuEngine:
    try:
        _answer(engine, file, self_check)
        file.require_unchanged()
    except BaseException:
        engine.close()
        raise
    return engine


class Entry:
    """The files of one key in a cache directory. A method may raise `OSError` unless it says otherwise."""

    def __init__(self, directory: Path, key: str, model: str = "") -> None:
        self.directory, self.key, self.model = directory, key, model
        self._path = directory / f"{key}.json"

    def load(self) -> Record | None:
        """Returns the record, or None if it is missing, damaged, or its weights file is not as recorded."""
        try:
            if self._path.stat().st_size > _RECORD_LIMIT:
                return None
            record: Record = from_json(Record, json.loads(self._path.read_bytes()), self._path.name)
            decode_vector(record.answer)
        except (OSError, ValueError, RecursionError, EdgeEmbedError):
            return None  # the entry is made again
        if record.schema != RECORD_SCHEMA:
            return None
        if not record.weights.startswith(f"{self.key}-") or os.sep in record.weights:
            return None
        if not self.intact(record):
            self.drop(record)
            return None
        return record

    def intact(self, record: Record) -> bool:
        """Returns whether the weights file is as it was when it was finished. Raises nothing."""
        try:
            state = Identity.of((self.directory / record.weights).stat())
        except OSError:
            return False
        # Without inode and device, so that a restored or copied cache is used too.
        return (state.size, state.mtime_ns) == (record.state.size, record.state.mtime_ns)

    def mark_used(self) -> None:
        """Sets the time of the record to now, which says when the entry was used last. Raises nothing."""
        with contextlib.suppress(OSError):  # a read-only cache
            os.utime(self._path)

    def store(self, record: Record) -> None:
        """Writes the record atomically."""
        temporary = self.directory / f".{self.key}.{os.getpid()}-{os.urandom(4).hex()}.tmp"
        text = json.dumps(to_json(record), indent=1)
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, self._path)
        except BaseException:
            _discard(temporary)
            raise

    def reserve(self) -> Path:
        """Returns the path for a new weights file, after making sure that a file can be made there."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        weights = self.directory / f"{self.key}-{os.getpid()}-{os.urandom(4).hex()}.weights"
        os.close(os.open(weights, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        weights.unlink()
        return weights

    def commit(self, weights: Path, answer: Vector, model: Identity) -> None:
        """Makes a finished weights file the current one."""
        descriptor = os.open(weights, os.O_RDWR)
        try:
            os.fsync(descriptor)
            state = Identity.of(os.fstat(descriptor))
        finally:
            os.close(descriptor)
        if state.size == 0:
            raise OSError("the packed weights were not written")
        self.store(Record(weights.name, state, encode_vector(answer), [model], model=self.model))

    def drop(self, record: Record) -> None:
        """Removes the files of the entry that can be removed. Raises nothing."""
        _discard(self._path)
        _discard(self.directory / record.weights)


def _processor() -> str:
    """Returns the facts of the processor that decide the kernels and the layout of packed weights."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as handle:
            text = handle.read(1 << 16)
    except OSError:
        uname = platform.uname()
        return f"{uname.machine} {uname.release} {platform.processor()}"
    wanted = (
        "vendor_id",
        "model name",
        "flags",
        "Features",
        "isa",
        "CPU implementer",
        "CPU part",
        "CPU variant",
    )
    # A set, because big and little cores differ and may come in any order.
    return "\n".join(sorted({line for line in text.splitlines()[:-1] if line.startswith(wanted)}))


_warned: set[Path] = set()


def _warn_once(directory: Path, reason: str) -> None:
    """Warns, once in a process, that a cache directory is not used."""
    if directory not in _warned:
        _warned.add(directory)
        warn(
            f"the cache directory {directory} is not used: {reason}. This process packs its own copy of the "
            f"weights. Run chmod go-w on it, or set EDGE_EMBED_CACHE to a directory of your own.",
            WeightCacheWarning,
        )


def _warn_unkept(reason: str, directory: Path | None) -> None:
    where = f" in {directory}" if directory else ""
    warn(
        f"packed weights cannot be kept{where} ({reason}); this process packs its own copy. "
        "Set EDGE_EMBED_CACHE to a writable directory, or pass weight_cache='memory' to accept that.",
        WeightCacheWarning,
    )


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):  # it may be missing already
        path.unlink()
