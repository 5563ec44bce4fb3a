"""The target `emulated:aarch64`: LiteRT's ARM kernels on this machine, under qemu's user-mode emulator.

What comes out is what a device answers: the same instructions run. How long it takes says nothing: the clock
measures the emulator. So a record names what emulated it, and its times compare with nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from edge_embed.errors import InputError
from edge_embed_bench.errors import TargetError
from edge_embed_bench.records.record import Machine
from edge_embed_bench.targets.base import Settings
from edge_embed_bench.targets.emulated import sysroot
from edge_embed_bench.targets.package import package_directories
from edge_embed_bench.targets.workers import Workers
from edge_embed_bench.worker.process import WORKER_MODULE, Launch, thread_limits


@dataclass(frozen=True)
class Cpu:
    """A processor that qemu emulates: Arm's part number, and what Linux says of its features."""

    part: str
    features: str


_V8 = "fp asimd aes pmull sha1 sha2 crc32 cpuid"
_V82 = "fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
CPUS = {
    "cortex-a53": Cpu("0xd03", _V8),
    "cortex-a76": Cpu("0xd0b", _V82),
    "neoverse-n1": Cpu("0xd0c", _V82),
}
"""The small cores of old phones and boards; a phone's big core and the Raspberry Pi 5; a server."""

DEFAULT_CPU = "cortex-a76"


class Emulator:
    """Starts worker processes in the sysroot.

    Args:
        cpu: One of `CPUS`.
        settings: Of all targets.
    """

    def __init__(self, cpu: str, settings: Settings) -> None:
        self.emulator: str | None = f"qemu-aarch64 -cpu {cpu}"
        self._cpu, self._settings = cpu, settings
        self._view: tempfile.TemporaryDirectory[str] | None = None
        self._root = Path()

    def prepare(self) -> None:
        """Builds the sysroot if it is not there, and lays this processor's answers over it."""
        self._root = sysroot.ensure(prepare=self._settings.prepare, timeout=self._settings.timeout)
        self.emulator = f"{_version(sysroot.qemu())} -cpu {self._cpu}"
        self._view = tempfile.TemporaryDirectory(prefix="edge-embed-aarch64-")
        _lay_view(Path(self._view.name), self._root, self._cpu)

    def machine(self) -> Machine | None:
        """Lets the process there say what it sees."""
        return None

    def push(self, path: Path) -> str:
        """Returns the path: the emulated process sees this machine's files."""
        return str(path.resolve())

    def directory(self) -> AbstractContextManager[str]:
        """Makes a temporary directory."""
        return tempfile.TemporaryDirectory(prefix="edge-embed-bench-")

    def launch(self, threads: int) -> Launch:
        """Starts the sysroot's Python under qemu."""
        if self._view is None:
            raise TargetError("the emulated target is closed")
        view = Path(self._view.name)
        command = (
            sysroot.qemu(),
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
    """Makes a root directory of links into the sysroot, with the files that tell the processor.

    LiteRT's cpuinfo reads them, and without these it would read this machine's and crash.
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
        "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\n"
        f"CPU part\t: {facts.part}\nCPU revision\t: 0\n"
    )


def _version(qemu: str) -> str:
    words = _output([qemu, "--version"])
    found = re.search(r"version (\S+)", words)
    return f"qemu-aarch64 {found[1]}" if found else "qemu-aarch64"


def _output(command: Sequence[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise TargetError(f"{shutil.which(command[0]) or command[0]} does not run", got=str(error)) from error
