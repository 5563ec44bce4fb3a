"""The arm64 system that emulated processes see: Debian's Python and the published aarch64 wheels.

Built once and kept in the cache directory. It needs no root: packages are unpacked, nothing in them is run.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edge_embed.engine.weight_cache import default_directory
from edge_embed.errors import InputError
from edge_embed.progress import step_bar
from edge_embed_bench.errors import TargetError
from edge_embed_bench.targets import package

SUITE, PYTHON_VERSION = "bookworm", "3.11"
DEBIAN_PACKAGES = (f"python{PYTHON_VERSION}", "libstdc++6")
PYTHON = f"usr/bin/python{PYTHON_VERSION}"

SITE = "opt/site-packages"
"""Where the wheels are, within the sysroot."""

PLATFORMS = tuple(f"manylinux{glibc}_aarch64" for glibc in ("_2_28", "_2_27", "_2_17", "2014"))
"""Debian's C library is 2.36; pip takes a wheel only by a tag that it was told."""

SIZE = "about 65 MB to fetch (Debian packages and PyPI wheels), 220 MB on disk"

_LAYOUT = 1
"""Counts changes of this recipe, so that a sysroot of an older one is not taken."""

_TOOLS = {"qemu-aarch64-static": "qemu-user-static", "mmdebstrap": "mmdebstrap"}
_WORDS_KEPT = 600


def requirements() -> list[str]:
    """Returns what the runtime needs there, its LiteRT being the one installed here."""
    litert = "ai-edge-litert"
    return [
        f"{litert}=={importlib.metadata.version(litert)}" if re.match(rf"{litert}\b", line) else line
        for line in package.requirements()
    ]


def qemu() -> str:
    """Returns the emulator's path.

    Raises:
        TargetError: If it is not installed.
    """
    _require_tools(["qemu-aarch64-static"])
    return str(shutil.which("qemu-aarch64-static"))


def directory() -> Path:
    """Returns where the sysroot is, or would be.

    Raises:
        InputError: If there is no cache directory.
    """
    cache = default_directory()
    if cache is None:
        raise InputError("no place to keep the sysroot", got="no home directory", fix="set EDGE_EMBED_CACHE")
    facts = [_LAYOUT, SUITE, DEBIAN_PACKAGES, PYTHON_VERSION, sorted(requirements())]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]
    return cache / "targets" / f"aarch64-{key}"


def ensure(*, prepare: bool, timeout: float) -> Path:
    """Returns the sysroot, and builds it first where that is allowed and needed.

    Args:
        prepare: Whether it may be downloaded.
        timeout: Seconds for each of the two downloads.

    Raises:
        TargetError: If it is not there and may not be downloaded, a tool is missing, or building it fails;
            nothing half-built is kept.
    """
    root = directory()
    _require_tools(["qemu-aarch64-static"] if root.is_dir() else list(_TOOLS))
    if root.is_dir():
        return root
    if not prepare:
        raise TargetError(
            "the emulated target needs an arm64 system that is not here yet",
            got=f"nothing at {root}",
            fix=f"add --prepare-target to build it: {SIZE}, once",
        )
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="building-", dir=root.parent) as work:
        built = Path(work) / "root"
        with step_bar("building the arm64 system") as step:
            step("Debian packages", 0, 2)
            _run(_debian(built), "unpacking Debian's arm64 packages", timeout)
            step("aarch64 wheels", 1, 2)
            _run(_wheels(built / SITE), "fetching the aarch64 wheels", timeout)
        try:
            os.replace(built, root)
        except OSError as error:
            if not root.is_dir():  # else another process was quicker
                raise TargetError(f"cannot keep {root}", got=error.strerror) from error
    return root


def _debian(root: Path) -> list[str]:
    return [
        "mmdebstrap",
        "--quiet",
        "--variant=extract",
        "--architectures=arm64",
        f"--include={','.join(DEBIAN_PACKAGES)}",
        SUITE,
        str(root),
    ]


def _wheels(site: Path) -> list[str]:
    version = PYTHON_VERSION.replace(".", "")
    tags = [word for platform in PLATFORMS for word in ("--platform", platform)]
    return [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
        "--target",
        str(site),
        "--only-binary=:all:",
        "--implementation",
        "cp",
        "--python-version",
        version,
        *tags,
        *requirements(),
    ]


def _require_tools(names: Sequence[str]) -> None:
    if missing := [_TOOLS[name] for name in names if shutil.which(name) is None]:
        raise TargetError(
            "the emulated target needs tools that are not installed",
            got=f"no {', no '.join(missing)}",
            fix=f"apt-get install {' '.join(missing)}",
        )


def _run(command: Sequence[str], what: str, timeout: float) -> None:
    """Runs a tool to its end.

    Raises:
        TargetError: With the tool's last words.
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
    if done.returncode:
        words = " ".join(done.stdout.decode("utf-8", "replace").split())[-_WORDS_KEPT:]
        raise TargetError(f"{what} failed", got=f"exit code {done.returncode}: {words}")
