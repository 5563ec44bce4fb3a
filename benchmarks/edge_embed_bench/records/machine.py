"""A description of the machine: processor, features, clock, memory, system."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from edge_embed_bench.errors import MeasurementError
from edge_embed_bench.records.record import Machine

FEATURES = frozenset(
    {
        "sse4_1",
        "ssse3",
        "avx",
        "avx2",
        "fma",
        "f16c",
        "avx_vnni",
        "avx512f",
        "avx512bw",
        "avx512_vnni",
        "avx512_bf16",
        "avx512_fp16",
        "amx_tile",
        "amx_int8",
        "amx_bf16",
        "asimd",
        "asimdhp",
        "asimddp",
        "i8mm",
        "bf16",
        "sve",
        "sve2",
        "sme",
        "sme2",
    }
)
"""Instruction sets that matrix kernels are chosen by, as Linux names them on x86 and ARM."""


def read_machine(root: Path = Path("/")) -> Machine:
    """Returns a description of this machine.

    Args:
        root: Where /proc and /sys are.

    Raises:
        MeasurementError: If the system does not report its memory.
    """
    facts = parse_cpu_facts(_read(root / "proc/cpuinfo") or "")
    flags = facts.get("flags") or facts.get("Features") or ""
    return Machine(
        cpu=_part(facts) or facts.get("model name") or platform.processor() or platform.machine(),
        architecture=platform.machine(),
        cores=usable_cores(),
        features=sorted(FEATURES & set(flags.split())),
        governor=_read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        memory_bytes=_memory(root),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        model=_tree(root, "model"),
        soc=_tree(root, "compatible"),
    )


def describe_machine() -> str:
    """Returns this machine in one line, for a published table."""
    return describe(read_machine())


def describe(machine: Machine) -> str:
    """Returns a machine in one line."""
    name = f"{machine.model}: " if machine.model else ""
    emulator = f", emulated by {machine.emulator}" if machine.emulator else ""
    governor = f", governor {machine.governor}" if machine.governor else ""
    return (
        f"{name}{machine.cpu} ({machine.architecture}, {machine.cores} cores{governor}), "
        f"{machine.memory_bytes / 2**30:.0f} GiB, {machine.system}{emulator}"
    )


def usable_cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parse_cpu_facts(text: str) -> dict[str, str]:
    """Returns the first processor's entry of what /proc/cpuinfo holds, empty where there is none."""
    facts: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            facts.setdefault(name.strip(), value.strip())
    return facts


def _part(facts: dict[str, str]) -> str | None:
    """Returns an ARM processor's numbers. Its "model name" is missing, or the same for every core."""
    implementer, part = facts.get("CPU implementer"), facts.get("CPU part")
    return f"ARM implementer {implementer} part {part}" if implementer and part else None


def _tree(root: Path, name: str) -> str | None:
    """Returns a property of a board's device tree: of a list the last part, which is the most general."""
    text = _read(root / "proc/device-tree" / name) or ""
    return text.strip("\0").split("\0")[-1] or None


def _memory(root: Path) -> int:
    for line in (_read(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError) as error:
        raise MeasurementError("the system does not report how much memory it has", got=str(error)) from error


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None
