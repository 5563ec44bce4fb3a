"""One Android device over `adb`: finds it, describes it, copies files. It does not measure."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

from edge_embed_bench.errors import TargetError
from edge_embed_bench.records.machine import FEATURES, parse_cpu_facts
from edge_embed_bench.records.record import Conditions, Machine
from edge_embed_bench.targets.base import require_room

STEP_S = 60.0
"""Longest wait in seconds for a small step, such as starting an activity."""

_WORDS_KEPT = 400
_STATES = {
    "unauthorized": "unlock the device and allow USB debugging for this computer",
    "offline": "unplug the device and plug it in again, or adb reconnect",
    "no permissions": "let this user access USB devices (udev rules of the android-sdk-platform-tools)",
    "recovery": "start the device into its system",
    "bootloader": "start the device into its system",
}
_REASONS = (
    ("unauthorized", "does not trust this computer", _STATES["unauthorized"]),
    ("offline", "is offline", _STATES["offline"]),
    ("not found", "is gone", "plug it in again"),
    ("no devices", "is gone", "plug it in again"),
    ("error: closed", "broke the connection", "plug it in again"),
    ("protocol fault", "broke the connection", "plug it in again"),
    ("device still authorizing", "does not trust this computer", _STATES["unauthorized"]),
)
_NO_ROOM = ("No space left on device", "not enough space", "ENOSPC")


class Device:
    """A device that is connected by adb.

    Args:
        serial: The serial number; None if there is only one device.

    Attributes:
        serial: Its serial number, after `find`.
    """

    def __init__(self, serial: str | None) -> None:
        self.serial = serial

    def find(self) -> None:
        """Chooses the device and checks that it can be used.

        Raises:
            TargetError: If there is none, more than one, or it refuses the connection.
        """
        if shutil.which("adb") is None:
            raise TargetError(
                "no adb is installed", fix="install Android's platform-tools, or apt-get install adb"
            )
        listed = self._adb(["devices"], "listing devices").splitlines()
        states = dict(line.split("\t", 1) for line in listed if "\t" in line)
        if self.serial is None and len(states) > 1:
            raise TargetError(
                "more than one device is attached", got=", ".join(states), fix="name it: adb:SERIAL"
            )
        serial = self.serial or next(iter(states), None)
        if serial is None or serial not in states:
            what = f"no device {serial}" if serial else "no device"
            raise TargetError(
                f"{what} is attached",
                got=", ".join(states) or "none",
                fix="plug it in and switch on USB debugging; adb devices must list it",
            )
        state = states[serial].strip()
        if state != "device":
            fix = next((fix for name, fix in _STATES.items() if state.startswith(name)), _STATES["offline"])
            raise TargetError(f"the device {serial} cannot be used", got=state, expected="device", fix=fix)
        self.serial = serial

    def shell(self, script: str, doing: str, timeout: float = STEP_S) -> str:
        """Runs a script in the device's shell and returns what it printed.

        Raises:
            TargetError: If the device is gone, the script fails or takes too long.
        """
        return self._adb([*self._which(), "shell", script], doing, timeout)

    def ask(self, script: str, timeout: float = STEP_S) -> str:
        """Runs a script and returns an empty answer if it fails: devices differ in what they allow.

        Raises:
            TargetError: If the device is gone or takes too long.
        """
        return self.shell(f"{script} 2>/dev/null || true", "asking the device", timeout).strip()

    def push(self, path: Path, place: str, timeout: float) -> None:
        """Copies a file onto the device.

        Raises:
            TargetError: If there is no room, or the device is gone.
        """
        size = path.stat().st_size
        directory = place.rpartition("/")[0]
        answer = self.ask(f"df -k {shlex.quote(directory)}")
        require_room(answer, size, f"the device {self.serial}", directory, "make room there")
        self._adb([*self._which(), "push", str(path), place], f"copying {path.name}", timeout)

    def fetch(self, place: str) -> bytes:
        """Returns the content of a file on the device.

        Raises:
            TargetError: If it cannot be read, or the device is gone.
        """
        done = self._run(
            [*self._which(), "exec-out", f"cat {shlex.quote(place)}"], "fetching the record", STEP_S
        )
        return done.stdout

    def property(self, *names: str) -> str | None:
        """Returns the first system property of these that is set."""
        for name in names:
            if value := self.ask(f"getprop {name}"):
                return value
        return None

    def machine(self) -> Machine:
        """Describes the device, as its shell sees it."""
        facts = parse_cpu_facts(self.ask("cat /proc/cpuinfo"))
        memory = re.search(r"MemTotal:\s+(\d+) kB", self.ask("cat /proc/meminfo"))
        if memory is None:
            raise TargetError(f"the device {self.serial} does not report how much memory it has")
        soc = self.property("ro.soc.model", "ro.board.platform", "ro.hardware")
        release = self.property("ro.build.version.release")
        maker, model = self.property("ro.product.manufacturer"), self.property("ro.product.model")
        return Machine(
            cpu=soc or "unknown",
            architecture=self.property("ro.product.cpu.abi") or "unknown",
            cores=len(self.cores()) or 1,
            features=sorted(FEATURES & set(facts.get("Features", facts.get("flags", "")).split())),
            governor=self.ask("cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or None,
            memory_bytes=int(memory[1]) * 1024,
            system=f"Android {release}",
            python=None,
            model=" ".join(word for word in (maker, model) if word) or None,
            soc=soc,
        )

    def cores(self) -> list[int]:
        """Returns the cores that an app in the foreground may use."""
        words = self.ask("cat /dev/cpuset/top-app/cpus") or self.ask("cat /sys/devices/system/cpu/online")
        found: list[int] = []
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", words):
            found += range(int(first), int(last or first) + 1)
        return found

    def temperature(self) -> float | None:
        """Returns the temperature of the processor in degrees Celsius, None if Android does not report it."""
        report = self.ask("dumpsys thermalservice")
        current = report.partition("Current temperatures from HAL")[2] or report
        current = current.partition("Current cooling devices")[0]
        # Type 0 is the processor; -1, 0 and odd ones are sensors that do not work.
        values = [float(v) for v in re.findall(r"mValue=(-?[\d.]+), mType=0,", current)]
        return max((v for v in values if 0 < v < 150), default=None)

    def conditions(self, before: float | None) -> Conditions:
        """Reads the temperature again and returns the conditions for a record."""
        return Conditions(before, self.temperature(), self.cores())

    def _which(self) -> list[str]:
        return ["-s", str(self.serial)]

    def _adb(self, words: list[str], doing: str, timeout: float = STEP_S) -> str:
        return self._run(words, doing, timeout).stdout.decode("utf-8", "replace").replace("\r\n", "\n")

    def _run(self, words: list[str], doing: str, timeout: float) -> subprocess.CompletedProcess[bytes]:
        name = f"the device {self.serial}" if self.serial else "the device"
        try:
            done = subprocess.run(
                ["adb", *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise TargetError(f"{doing}: {name} did not answer within {timeout:g} s") from error
        except OSError as error:
            raise TargetError("adb does not run", got=str(error)) from error
        if not done.returncode:
            return done
        said = " ".join((done.stderr or done.stdout).decode("utf-8", "replace").split())[-_WORDS_KEPT:]
        if any(sign in said for sign in _NO_ROOM):
            raise TargetError(f"no room left on {name}, {doing}", got=said, fix="make room there")
        for sign, what, fix in _REASONS:
            if sign in said:
                raise TargetError(f"{name} {what}, {doing}", got=said, fix=fix)
        raise TargetError(f"{doing} failed on {name}", got=f"exit code {done.returncode}: {said}")
