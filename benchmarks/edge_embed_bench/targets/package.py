"""Packs this project as a wheel for a target, from the directories that it is imported from."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import zipfile
from pathlib import Path

from edge_embed import __version__
from edge_embed_bench.errors import TargetError
from edge_embed_bench.worker.process import package_roots

PACKAGES = ("edge_embed", "edge_embed_bench")
"""The packages that a target needs: the runtime and the measuring module."""

_TAG = "py3-none-any"


def package_directories() -> list[Path]:
    """Returns the directories of `PACKAGES`."""
    return [root / name for name in PACKAGES for root in package_roots() if (root / name).is_dir()]


def requirements() -> list[str]:
    """Returns what the runtime depends on, extras left out.

    Raises:
        TargetError: If this package is not installed and so does not say.
    """
    try:
        declared = importlib.metadata.requires("edge-embed") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise TargetError(
            "edge_embed is not installed, so nothing says what it depends on", fix="install it with pip"
        ) from error
    return [line for line in declared if "extra ==" not in line]


def write_wheel(directory: Path) -> Path:
    """Packs the installed packages into a wheel and returns its path. Nothing is built or fetched."""
    info = f"edge_embed-{__version__}.dist-info"
    members = {
        f"{package.name}/{file.relative_to(package).as_posix()}": file.read_bytes()
        for package in package_directories()
        for file in sorted(package.rglob("*"))
        if file.is_file() and file.suffix != ".pyc"
    }
    needs = "".join(f"Requires-Dist: {line}\n" for line in requirements())
    members[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: edge-embed\nVersion: {__version__}\n{needs}".encode()
    )
    members[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: edge_embed_bench\nRoot-Is-Purelib: true\nTag: {_TAG}\n".encode()
    )
    rows = [f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in members.items()]
    record = f"{info}/RECORD"
    members[record] = "".join([*rows, f"{record},,\n"]).encode()
    path = directory / f"edge_embed-{__version__}-{_TAG}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def _digest(data: bytes) -> str:
    """Returns a hash as a wheel's RECORD writes it."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
