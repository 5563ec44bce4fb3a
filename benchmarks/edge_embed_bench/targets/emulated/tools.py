"""The programs behind the emulated target: found, run to their end, or named as missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_embed.engine.cache_directory import default_directory
from edge_embed.errors import InputError
from edge_embed_bench.errors import TargetError

_CHARACTERS_SHOWN = 600


def kept_directory(name: str) -> Path:
    """Returns the place of a download of the targets in the cache directory.

    Raises:
        InputError: If there is no cache directory.
    """
    cache = default_directory()
    if cache is None:
        raise InputError(f"no place to keep {name}", got="no home directory", fix="set EDGE_EMBED_CACHE")
    return cache / "targets" / name


def require(program: str) -> None:
    """Checks that a program of the Debian package of the same name is installed.

    Raises:
        TargetError: If it is not.
    """
    if shutil.which(program) is None:
        raise TargetError(
            f"the emulated target needs {program}, which is not installed", fix=f"apt-get install {program}"
        )


def run(command: Sequence[str], what: str, timeout: float) -> str:
    """Runs a program to its end and returns its output.

    Raises:
        TargetError: If it cannot be started, fails or takes too long; with the end of what it printed.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TargetError(f"{what} took longer than {timeout:g} s", fix="raise --timeout") from error
    except OSError as error:
        raise TargetError(f"{what} failed", got=str(error)) from error
    output = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        shown = " ".join(output.split())[-_CHARACTERS_SHOWN:]
        raise TargetError(f"{what} failed", got=f"exit code {done.returncode}: {shown}")
    return output


def build(place: Path, make: Callable[[Path], object]) -> None:
    """Makes a directory in a temporary place and renames it: what exists at `place` is complete.

    If another process has made it meanwhile, that one stays: it holds the same.

    Raises:
        TargetError: If it cannot be renamed. Whatever `make` raises passes, and nothing is left behind.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="building-", dir=place.parent) as work:
        built = Path(work) / "root"
        make(built)
        try:
            os.replace(built, place)
        except OSError as error:
            if not place.is_dir():
                raise TargetError(f"cannot keep {place}", got=error.strerror) from error
