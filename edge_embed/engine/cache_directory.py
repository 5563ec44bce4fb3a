"""The cache directory: where it is, who may be trusted with it, what lies in it, and how it is kept small.

An entry is one model's packed weights: the record `KEY.json` and the weights file that it names.
`weight_cache` writes and reads entries; here they are found, listed and removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge_embed.errors import InputError

LIMIT_VARIABLE = "EDGE_EMBED_CACHE_SIZE"
"""The environment variable that limits the packed weights on disk, such as 2GB; by default no limit."""

ORPHAN_AGE = 600.0
"""Seconds after which a file that no record names cannot belong to a process that is still writing it."""

LOCK_SECONDS = 60.0
"""How long a process waits for another one that packs weights. A hung process must not stop the others."""

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def default_directory() -> Path | None:
    """Returns the cache directory unless a call names one; None without a home directory."""
    if chosen := os.environ.get("EDGE_EMBED_CACHE"):
        return Path(os.path.abspath(os.path.expanduser(chosen)))
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # the XDG specification: a relative one is to be ignored
        return Path(base) / "edge_embed"
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        return None
    parts = ("Library", "Caches") if sys.platform == "darwin" else (".cache",)
    return Path(home, *parts, "edge_embed")


def distrust(directory: Path) -> str | None:
    """Returns why packed weights in a directory cannot be trusted; None if they can or it does not exist.

    Who can write there can replace a model's weights by others.
    """
    try:
        status = directory.stat()
    except OSError:
        return None
    if not hasattr(os, "geteuid"):
        return None
    if status.st_uid not in (os.geteuid(), 0):
        return f"it belongs to user {status.st_uid}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"other users may write to it, mode {stat.S_IMODE(status.st_mode):o}"
    return None


@contextlib.contextmanager
def packing_lock(directory: Path) -> Iterator[None]:
    """Lets one process at a time pack weights into a directory, so that the others find them ready.

    Where the file system has no locks, and after `LOCK_SECONDS`, the block runs without.
    """
    try:
        import fcntl

        descriptor = os.open(directory, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        give_up = time.monotonic() + LOCK_SECONDS
        while time.monotonic() < give_up:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                break
        yield
    finally:
        os.close(descriptor)  # which gives the lock back


class CacheEntry(NamedTuple):
    """One model's packed weights.

    Attributes:
        key: The entry's key.
        model: The model's name; empty in entries of earlier versions.
        size: Bytes on disk.
        last_used: When a process last loaded it, in seconds since 1970.
        paths: Its files, the record first.
    """

    key: str
    model: str
    size: int
    last_used: float
    paths: tuple[Path, ...]


def entries(directory: Path) -> list[CacheEntry]:
    """Returns the entries of a directory, most recently used first. Damaged records count as no entry."""
    found = []
    with contextlib.suppress(OSError):
        for path in directory.glob("*.json"):
            with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
                record = json.loads(path.read_bytes())
                weights = directory / Path(record["weights"]).name
                if not weights.name.startswith(f"{path.stem}-"):
                    continue
                status = path.stat()
                size = status.st_size + weights.stat().st_size
                name = str(record.get("model", ""))
                found.append(CacheEntry(path.stem, name, size, status.st_mtime, (path, weights)))
    return sorted(found, key=lambda entry: -entry.last_used)


def remove(entry: CacheEntry) -> None:
    """Removes an entry. Processes that use it keep what they have mapped."""
    for path in entry.paths:
        _discard(path)


def sweep(directory: Path, *, age: float = ORPHAN_AGE) -> list[Path]:
    """Removes files that a process left when it was ended while it packed; returns them.

    Args:
        directory: The cache directory.
        age: Seconds since such a file was last written to.
    """
    removed = []
    with contextlib.suppress(OSError):  # another process sweeps at the same time
        named = {path for entry in entries(directory) for path in entry.paths}
        for path in [*directory.glob("*-*.weights"), *directory.glob(".*.tmp")]:
            if path not in named and time.time() - path.stat().st_mtime > age:
                _discard(path)
                removed.append(path)
    return removed


def evict(directory: Path, limit: int, *, keep: str | None = None) -> list[CacheEntry]:
    """Removes the entries that were not used for longest, until the rest fits; returns them.

    Args:
        directory: The cache directory.
        limit: Bytes for all entries together.
        keep: The key of an entry that stays.
    """
    present = entries(directory)
    size = sum(entry.size for entry in present)
    removed = []
    for entry in reversed(present):
        if size <= limit:
            break
        if entry.key != keep:
            remove(entry)
            removed.append(entry)
            size -= entry.size
    return removed


def size_limit() -> int | None:
    """Returns the limit that the environment sets, in bytes; None if it sets none.

    Raises:
        InputError: If it is not a size.
    """
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    return parse_size(text, LIMIT_VARIABLE) if text else None


def parse_size(text: str, name: str) -> int:
    """Returns a size in bytes from text such as ``2GB``, ``500 MiB`` or ``1000000``.

    Raises:
        InputError: If it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    unit = _UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None:
        raise InputError(
            f"{name} is not a size", got=repr(text), expected="bytes, or a size such as 2GB or 500MiB"
        )
    return int(float(found[1]) * unit)


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):  # it may be missing already
        path.unlink()
