"""The arm64 system that emulated processes see: Debian's Python and the published aarch64 wheels.

Built once and kept in the cache directory. It needs no root: packages are unpacked, nothing in them is run.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import sys
from pathlib import Path

from edge_embed.progress import step_bar
from edge_embed_bench.errors import TargetError
from edge_embed_bench.targets import package
from edge_embed_bench.targets.emulated import tools

SUITE, PYTHON_VERSION = "bookworm", "3.11"
DEBIAN_PACKAGES = (f"python{PYTHON_VERSION}", "libstdc++6")
PYTHON = f"usr/bin/python{PYTHON_VERSION}"

SITE = "opt/site-packages"
"""Where the wheels are, within the sysroot."""

PLATFORMS = tuple(f"manylinux{glibc}_aarch64" for glibc in ("_2_28", "_2_27", "_2_17", "2014"))
"""Tags that pip may take: Debian's C library is 2.36, so wheels for older ones run."""

SIZE = "about 65 MB to fetch (Debian packages and PyPI wheels), 220 MB on disk"

_LAYOUT = 1
"""The version of this recipe: a sysroot made by another version is not used."""


def requirements() -> list[str]:
    """Returns what the runtime needs there, its LiteRT being the one installed here."""
    litert = "ai-edge-litert"
    return [
        f"{litert}=={importlib.metadata.version(litert)}" if re.match(rf"{litert}\b", line) else line
        for line in package.requirements()
    ]


def directory() -> Path:
    """Returns where the sysroot is, or would be.

    Raises:
        InputError: If there is no cache directory.
    """
    facts = [_LAYOUT, SUITE, DEBIAN_PACKAGES, PYTHON_VERSION, sorted(requirements())]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]
    return tools.kept_directory(f"aarch64-{key}")


def ensure(*, prepare: bool, timeout: float) -> Path:
    """Returns the sysroot, and builds it first where that is allowed and needed.

    Args:
        prepare: Whether it may be downloaded.
        timeout: Seconds for each of the two downloads.

    Raises:
        TargetError: If it does not exist and may not be downloaded, a tool is missing, or building it fails;
            nothing incomplete is kept.
    """
    root = directory()
    if root.is_dir():
        return root
    if not prepare:
        raise TargetError(
            "the emulated target needs an arm64 system that is not here yet",
            got=f"nothing at {root}",
            fix=f"add --prepare-target to build it: {SIZE}, once",
        )
    tools.require("mmdebstrap")

    def make(built: Path) -> None:
        with step_bar("building the arm64 system") as step:
            step("Debian packages", 0, 2)
            tools.run(_debian(built), "unpacking Debian's arm64 packages", timeout)
            step("aarch64 wheels", 1, 2)
            tools.run(_wheels(built / SITE), "fetching the aarch64 wheels", timeout)

    tools.build(root, make)
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
