"""Which LiteRT is installed, found without importing it."""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import sys
from pathlib import Path

from edge_embed.errors import RuntimeFailure

C_INTERFACE = "2.3."
"""How the version of a LiteRT begins whose C interface `c_api` knows."""

_AT_HWCAP, _HWCAP_ATOMICS = 16, 1 << 8  # Linux, include/uapi: auxvec.h, and asm/hwcap.h of arm64


def package_directory() -> Path:
    """Returns where LiteRT is installed.

    Raises:
        RuntimeFailure: If it is not.
    """
    spec = importlib.util.find_spec("ai_edge_litert")
    if spec is None or not spec.submodule_search_locations:
        raise cannot_be_loaded("no package ai_edge_litert")
    return Path(spec.submodule_search_locations[0])


def versions(package: Path) -> list[str]:
    """Returns the versions that LiteRT's metadata names. `importlib.metadata` would take 70 ms for that."""
    found = package.parent.glob("ai_edge_litert-*.dist-info")
    return sorted(path.name.removesuffix(".dist-info").partition("-")[2] for path in found)


def library_version() -> str:
    """Returns what identifies the installed LiteRT, for keys of things that depend on its build."""
    package = package_directory()
    libraries = sorted((p.name, p.stat().st_size) for p in package.glob("lib*") if p.is_file())
    return f"{versions(package)} {libraries}"


def has_known_c_interface() -> bool:
    """Returns whether the installed LiteRT is of a version whose C interface `c_api` knows."""
    found = versions(package_directory())
    return bool(found) and all(version.startswith(C_INTERFACE) for version in found)


def cannot_be_loaded(reason: str) -> RuntimeFailure:
    """Returns the error of a LiteRT that is missing or damaged."""
    return RuntimeFailure(
        "LiteRT cannot be loaded", got=reason, fix="pip install --force-reinstall 'ai-edge-litert>=2.3,<3'"
    )


def require_arm_atomics() -> None:
    """Refuses LiteRT's Python interface on the first 64-bit ARM cores, where loading it ends the process.

    The interface loads a GPU accelerator, whatever it is asked for. LiteRT's aarch64 wheel has that library
    compiled for ARMv8.1, so cores without the atomic instructions of that version stop at it with SIGILL.
    LiteRT's C interface, which runs files on the CPU, does not load it.

    Raises:
        RuntimeFailure: If this processor has no such instructions.
    """
    if sys.platform == "linux" and platform.machine() == "aarch64" and not has_arm_atomics():
        raise RuntimeFailure(
            "this processor cannot load LiteRT's accelerators",
            got="an ARM core without the atomic instructions of ARMv8.1, such as Cortex-A53, A57, A72 or A73 "
            "(Raspberry Pi 3 and 4)",
            expected="ARMv8.1 or newer, such as Cortex-A55, A76 (Raspberry Pi 5) or Neoverse N1",
            fix=f"use accelerator='cpu', with ai-edge-litert {C_INTERFACE}x",
        )


def has_arm_atomics() -> bool:
    """Returns whether an ARM processor has the atomic instructions of ARMv8.1, as far as the system says."""
    try:
        libc = ctypes.CDLL(None)
        libc.getauxval.restype, libc.getauxval.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
        return bool(libc.getauxval(_AT_HWCAP) & _HWCAP_ATOMICS)
    except (AttributeError, OSError):  # another libc
        return True
