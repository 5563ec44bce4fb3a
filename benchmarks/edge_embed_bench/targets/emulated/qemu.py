"""qemu's user-mode emulator: the one of this machine, or a newer one that is fetched into the cache.

Old versions compute some instructions of new cores wrongly: with qemu 7.2, all-MiniLM in int8 answers at
cosine 0.06 on `-cpu max`, whose SME it gets wrong, and `cortex-a710` is unknown to it. With qemu 11.1 both
agree with this machine. So a core states the oldest version that it needs, and an older one is refused.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_embed.progress import step_bar
from edge_embed_bench.errors import TargetError
from edge_embed_bench.targets.emulated import tools

Version = tuple[int, int]

PROGRAMS = ("qemu-aarch64-static", "qemu-aarch64")
"""Names of the emulator, as Debian's stable and its newer releases have them."""

SUITE, PACKAGE = "sid", "qemu-user"
"""Debian's unstable release has a static emulator in one package, for every architecture that Debian has."""

SIZE = "about 45 MB to fetch, 17 MB on disk"

ANY: Version = (0, 0)

NEW_CORES: Version = (10, 1)
"""The oldest version that computes SVE2, i8mm and SME2 correctly; a fetched emulator is no older."""

_PROBE_S = 60.0


@dataclass(frozen=True)
class Qemu:
    """An emulator that runs here."""

    path: str
    version: Version

    @property
    def name(self) -> str:
        """How records call it."""
        return f"qemu-aarch64 {_text(self.version)}"


def find(least: Version, core: str, *, prepare: bool, timeout: float) -> Qemu:
    """Returns an emulator that is new enough, and fetches one first where that is allowed and needed.

    Args:
        least: The oldest version that computes the core correctly.
        core: The core's name, for the message.
        prepare: Whether an emulator may be downloaded.
        timeout: Seconds for the download.

    Raises:
        TargetError: If none is new enough and none may be downloaded, or the download fails or is too old;
            then nothing is kept.
    """
    found = list(_installed())
    for emulator in found:
        if emulator.version >= least:
            return emulator
    if not prepare:
        fix = f"add --prepare-target to fetch a newer one into the cache: {SIZE}, once"
        if not found:
            raise TargetError(
                "the emulated target needs qemu's user-mode emulator, which is not installed",
                fix=f"{fix}; or apt-get install qemu-user-static",
            )
        raise TargetError(
            f"the installed qemu is too old to emulate {core} correctly",
            got=", ".join(emulator.name for emulator in found),
            expected=f"qemu {_text(least)} or newer",
            fix=fix,
        )
    return _fetch(timeout)


def directory() -> Path:
    """Returns where the fetched emulator is, or would be.

    Raises:
        InputError: If there is no cache directory.
    """
    return tools.kept_directory(f"{PACKAGE}-{_text(NEW_CORES)}")


def _installed() -> Iterator[Qemu]:
    """Yields the emulators of this machine, and then the one that was fetched before."""
    kept = directory() / PROGRAMS[1]
    for path in (*map(shutil.which, PROGRAMS), str(kept) if kept.is_file() else None):
        if path is not None:
            yield _probe(path)


def _probe(path: str) -> Qemu:
    output = tools.run([path, "--version"], f"asking {path} for its version", _PROBE_S)
    match = re.search(r"version (\d+)\.(\d+)", output)
    if match is None:
        raise TargetError(f"{path} does not state its version", got=output.strip()[:80])
    return Qemu(path, (int(match[1]), int(match[2])))


def _fetch(timeout: float) -> Qemu:
    """Unpacks Debian's package through apt, which checks the signature of the index and every hash."""
    tools.require("mmdebstrap")

    def make(place: Path) -> None:
        unpacked = place.with_name("unpacked")
        tools.run(_command(unpacked), f"fetching {PACKAGE} of Debian's {SUITE}", timeout)
        place.mkdir()
        shutil.copy2(unpacked / "usr/bin" / PROGRAMS[1], place / PROGRAMS[1])
        fetched = _probe(str(place / PROGRAMS[1]))
        if fetched.version < NEW_CORES:
            raise TargetError(
                f"the mirror's {PACKAGE} of Debian's {SUITE} is too old",
                got=fetched.name,
                expected=f"qemu {_text(NEW_CORES)} or newer",
            )

    with step_bar("fetching the emulator") as step:
        step(f"{PACKAGE} of Debian's {SUITE}", 0, 1)
        tools.build(directory(), make)
    return _probe(str(directory() / PROGRAMS[1]))


def _command(root: Path) -> list[str]:
    return [
        "mmdebstrap",
        "--quiet",
        "--variant=extract",
        # A mirror that lags behind serves an index past its date. Its signature is checked all the same.
        '--aptopt=Acquire::Check-Valid-Until "false"',
        f"--include={PACKAGE}",
        SUITE,
        str(root),
    ]


def _text(version: Version) -> str:
    return ".".join(map(str, version))
