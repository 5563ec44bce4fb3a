"""Keeping LiteRT alive on the first 64-bit ARM cores.

LiteRT's aarch64 wheel brings a GPU accelerator, which its Python wrapper loads whatever is asked for. That
library was compiled for ARMv8.1 and ends the process with SIGILL, at the moment it is loaded, on cores
without the atomic instructions of that version: Cortex-A53, A57, A72 and A73, so the Raspberry Pi 3 and 4.
The rest of LiteRT asks the processor before it uses them.

The dynamic linker takes a library that is loaded already for one that is asked for by the same name. So here
an empty library of that name is loaded first; LiteRT finds nothing in it and goes on with the CPU.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

LIBRARY = "libLiteRtWebGpuAccelerator.so"

_AT_HWCAP, _HWCAP_ATOMICS = 16, 1 << 8  # Linux, include/uapi: auxvec.h, and asm/hwcap.h of arm64
_MACHINES = {"aarch64": 183, "x86_64": 62}
_PAGE = 1 << 16

_loaded: list[ctypes.CDLL] = []


def keep_out_what_would_kill_us() -> None:
    """Loads the empty library if this processor needs it. Calling it again does nothing."""
    if _loaded or sys.platform != "linux" or platform.machine() != "aarch64" or has_atomics():
        return
    _loaded.append(load_empty_library(LIBRARY))


def has_atomics() -> bool:
    """Tells whether an ARM processor has the atomic instructions of ARMv8.1, as far as the system says."""
    try:
        libc = ctypes.CDLL(None)
        libc.getauxval.restype, libc.getauxval.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
        return bool(libc.getauxval(_AT_HWCAP) & _HWCAP_ATOMICS)
    except (AttributeError, OSError):  # another libc
        return True


def load_empty_library(name: str) -> ctypes.CDLL:
    """Loads a library without any function under a name, from memory."""
    handle = os.memfd_create(name)
    try:
        os.write(handle, empty_library(name, _MACHINES[platform.machine()]))
        return ctypes.CDLL(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


def empty_library(name: str, machine: int) -> bytes:
    """Returns a shared object in ELF's 64-bit form that has a name and nothing else.

    Args:
        name: Its DT_SONAME.
        machine: ELF's number of the architecture.
    """
    names = b"\0" + name.encode() + b"\0"
    headers = 64 + 3 * 56
    symbols = headers  # one symbol, the null one
    hashes = symbols + 24
    strings = hashes + 16
    dynamic = -(-(strings + len(names)) // 16) * 16
    # DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SYMENT, DT_SONAME, DT_NULL
    entries = ((4, hashes), (5, strings), (6, symbols), (10, len(names)), (11, 24), (14, 1), (0, 0))
    table = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    size = dynamic + len(table)
    shared_object = 3
    head = b"\x7fELF\2\1\1".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", shared_object, machine, 1, 0, 64, 0, 0, 64, 56, 3, 64, 0, 0)
    readable, writable = 4, 2
    for kind, offset, length, align in (
        (1, 0, size, _PAGE),  # PT_LOAD; the linker writes into the dynamic table
        (2, dynamic, len(table), 8),  # PT_DYNAMIC
        (0x6474E551, 0, 0, 16),  # PT_GNU_STACK: without it an executable stack is asked for
    ):
        flags = readable | writable
        head += struct.pack("<IIQQQQQQ", kind, flags, offset, offset, offset, length, length, align)
    body = head + b"\0" * 24 + struct.pack("<4I", 1, 1, 0, 0) + names
    return body.ljust(dynamic, b"\0") + table
