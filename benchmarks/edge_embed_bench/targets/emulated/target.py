"""The target `emulated:aarch64`: LiteRT's ARM kernels on this machine, under qemu's user-mode emulator.

The same instructions run as on a device, so the vectors are those of a device. The clock measures the
emulator, so a record names its emulator, and its times cannot be compared with any other.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from edge_embed.errors import InputError
from edge_embed_bench.errors import TargetError
from edge_embed_bench.records.record import Machine
from edge_embed_bench.targets.base import Settings
from edge_embed_bench.targets.emulated import qemu, sysroot
from edge_embed_bench.targets.package import package_directories
from edge_embed_bench.targets.workers import Workers
from edge_embed_bench.worker.process import WORKER_MODULE, Launch, thread_limits


@dataclass(frozen=True)
class Cpu:
    """A processor that qemu emulates.

    Attributes:
        part: Arm's part number, or qemu's.
        features: What Linux lists in /proc/cpuinfo.
        least_qemu: The oldest qemu that emulates it correctly.
        implementer: Arm, or 0x00 for a processor that only qemu has.
    """

    part: str
    features: str
    least_qemu: qemu.Version = qemu.ANY
    implementer: str = "0x41"


_V8 = "fp asimd aes pmull sha1 sha2 crc32 cpuid"
_V82 = "fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
_V9 = f"{_V82} jscvt fcma sve asimdfhm sve2 svei8mm svebf16 i8mm bf16"
CPUS = {
    "cortex-a53": Cpu("0xd03", _V8),
    "cortex-a76": Cpu("0xd0b", _V82),
    "neoverse-n1": Cpu("0xd0c", _V82),
    "cortex-a710": Cpu("0xd47", _V9, qemu.NEW_CORES),
    "max": Cpu("0x051", f"{_V9} sme sme2", qemu.NEW_CORES, implementer="0x00"),
}
"""The small cores of old phones and boards; a phone's big core of 2018 and the Raspberry Pi 5; a server; a
phone's big core of 2022 with SVE2 and i8mm; all that qemu knows, SME2 included."""

DEFAULT_CPU = "cortex-a76"


class Emulator:
    """Starts worker processes in the sysroot.

    Args:
        cpu: One of `CPUS`.
        settings: The settings of all targets.
    """

    def __init__(self, cpu: str, settings: Settings) -> None:
        self.emulator: str | None = f"qemu-aarch64 -cpu {cpu}"
        self._cpu, self._settings = cpu, settings
        self._view: tempfile.TemporaryDirectory[str] | None = None
        self._root = Path()
        self._qemu: qemu.Qemu | None = None

    def prepare(self) -> None:
        """Finds or fetches the emulator and the sysroot, and describes the processor."""
        prepare, timeout = self._settings.prepare, self._settings.timeout
        least = CPUS[self._cpu].least_qemu
        self._qemu = qemu.find(least, self._cpu, prepare=prepare, timeout=timeout)
        self._root = sysroot.ensure(prepare=prepare, timeout=timeout)
        self.emulator = f"{self._qemu.name} -cpu {self._cpu}"
        self._view = tempfile.TemporaryDirectory(prefix="edge-embed-aarch64-")
        _lay_view(Path(self._view.name), self._root, self._cpu)

    def machine(self) -> Machine | None:
        """Returns None: a worker process there describes it."""
        return None

    def push(self, path: Path) -> str:
        """Returns the path: the emulated process sees this machine's files."""
        return str(path.resolve())

    def directory(self) -> AbstractContextManager[str]:
        """Makes a temporary directory."""
        return tempfile.TemporaryDirectory(prefix="edge-embed-bench-")

    def launch(self, threads: int) -> Launch:
        """Starts the sysroot's Python under qemu."""
        if self._view is None or self._qemu is None:
            raise TargetError("the emulated target is closed")
        view = Path(self._view.name)
        command = (
            self._qemu.path,
            "-L",
            str(view),
            "-cpu",
            self._cpu,
            str(view / sysroot.PYTHON),
            "-m",
            WORKER_MODULE,
        )
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(view),
            "LANG": "C.UTF-8",
            "PYTHONPATH": os.pathsep.join([str(self._root / sysroot.SITE), str(view / "package")]),
            "PYTHONNOUSERSITE": "1",
            **thread_limits(threads),
        }
        return Launch(command, environment)

    def clean_up(self) -> None:
        """Removes the view; the sysroot stays for the next time."""
        if self._view is not None:
            self._view.cleanup()
            self._view = None


class Emulated(Workers):
    """Measures under an emulated ARM processor, which has no accelerator beside it."""

    accelerators: Sequence[str] = ("cpu",)

    def __init__(self, name: str, settings: Settings) -> None:
        match = re.fullmatch(r"emulated:aarch64(?:/([a-z0-9-]+))?", name)
        cpu = match and (match[1] or DEFAULT_CPU)
        if cpu not in CPUS:
            raise InputError(
                "unknown emulated target",
                got=repr(name),
                expected=", ".join(f"emulated:aarch64/{known}" for known in CPUS),
            )
        super().__init__(Emulator(str(cpu), settings), settings)


def _lay_view(view: Path, root: Path, cpu: str) -> None:
    """Makes a root directory of links into the sysroot, with files that describe the processor.

    LiteRT reads these files. Without them it would read those of this machine and crash.
    """
    for entry in root.iterdir():
        if entry.name not in ("proc", "sys", "tmp", "dev"):
            target = os.readlink(entry) if entry.is_symlink() else entry
            (view / entry.name).symlink_to(target)
    (view / "package").mkdir()
    for source in package_directories():
        (view / "package" / source.name).symlink_to(source)
    cores = os.cpu_count() or 1
    facts = CPUS[cpu]
    (view / "proc").mkdir()
    (view / "proc/cpuinfo").write_text("\n".join(_entry(core, facts) for core in range(cores)), "ascii")
    system = view / "sys/devices/system/cpu"
    system.mkdir(parents=True)
    for name in ("possible", "present", "online"):
        (system / name).write_text("0\n" if cores == 1 else f"0-{cores - 1}\n", "ascii")


def _entry(core: int, facts: Cpu) -> str:
    return (
        f"processor\t: {core}\nBogoMIPS\t: 100.00\nFeatures\t: {facts.features}\n"
        f"CPU implementer\t: {facts.implementer}\nCPU architecture: 8\nCPU variant\t: 0x0\n"
        f"CPU part\t: {facts.part}\nCPU revision\t: 0\n"
    )
