"""Files and directories: written whole or not at all, hashed, measured."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_embed.errors import InputError


def ensure_directory(path: Path) -> None:
    """Makes a directory and its parents, unless it exists.

    Raises:
        InputError: If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the directory {path}", got=error.strerror or str(error)) from error


def make_directory(place: Path, fill: Callable[[Path], object]) -> None:
    """Makes a directory whose content is complete: it is filled under another name and then renamed.

    If another process has made the directory meanwhile, that one stays, because it holds the same.

    Raises:
        OSError: If it cannot be made. Errors of `fill` are passed on; nothing is left behind then.
    """
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        fill(temporary)
        try:
            os.replace(temporary, place)
        except OSError:
            if not place.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sha256_of(path: Path) -> str:
    """Returns a file's hash."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def bytes_under(directory: Path) -> int:
    """Returns the size of every file under a directory."""
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def maker_key(sources: Sequence[Path], packages: Sequence[str] = ()) -> str:
    """Returns a key of the code that makes a kept file, as 12 hexadecimal digits.

    Args:
        sources: Files, or directories of them, that make the file.
        packages: Distributions that the code uses. One that is not installed is part of the key as well.
    """
    digest = hashlib.sha256()
    for source in sources:
        for file in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if not file.is_file() or file.suffix == ".pyc":
                continue
            digest.update(f"{file.relative_to(source.parent)}\0{sha256_of(file)}\0".encode())
    for name in packages:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = "none"
        digest.update(f"{name} {version}\0".encode())
    return digest.hexdigest()[:12]


def without_directories(word: str) -> str:
    """Returns a word of a command line without directories: of `PATH`, of `NAME=PATH` and of `PATH,PATH`."""
    head, equals, paths = word.rpartition("=")
    return head + equals + ",".join(Path(path).name if "/" in path else path for path in paths.split(","))
