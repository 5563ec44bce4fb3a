"""A directory that behaves as a phone behind `adb`, for as much as the target asks of one.

`adb` on PATH is a shell script. Its `shell` runs what it is given in a real shell, with Android's own
commands as small scripts beside it and /sdcard in the directory.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

SERIAL = "FAKE0001"
PROPERTIES = {
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.product.model": "Phone 1",
    "ro.product.manufacturer": "Maker",
    "ro.soc.model": "SoC 9000",
    "ro.build.version.release": "15",
}

ADB = """#!/bin/sh
phone={phone}
echo "$*" >> $phone/log
if [ "$1" = devices ]; then echo "List of devices attached"; cat $phone/devices; echo; exit 0; fi
[ "$1" = -s ] && serial=$2 && shift 2
if ! grep -q "^$serial" $phone/devices; then echo "adb: device '$serial' not found" >&2; exit 1; fi
verb=$1; shift
case $verb in
push)
    if [ -f $phone/full ]; then
        echo "adb: error: failed to copy '$1': remote couldn't write: No space left on device" >&2; exit 1
    fi
    cp "$1" "$phone$2";;
shell|exec-out)
    export PATH=$phone/bin:$PATH
    exec sh -c "$(printf %s "$*" | sed "s#/sdcard#$phone/sdcard#g")";;
*) echo "adb: unknown command $verb" >&2; exit 1;;
esac
"""
COMMANDS = {
    "getprop": 'cat "{phone}/properties/$1" 2>/dev/null',
    "pm": '[ -f {phone}/installed ] && echo "package:/data/app/base.apk"',
    "df": 'printf "Filesystem 1K-blocks Used Available\\n/dev/fuse 9 9 $(cat {phone}/free)\\n"',
    "pidof": 'pid=$(cat {phone}/pid 2>/dev/null) && grep -qs "^State:.[^Z]" /proc/$pid/status && echo $pid',
    "dumpsys": 'cat "{phone}/dumpsys.$1" 2>/dev/null',
    "am": """case "$1 $4" in
"force-stop "*) [ -f {phone}/pid ] && kill -9 "$(cat {phone}/pid)" 2>/dev/null; rm -f {phone}/pid;;
*) case "$*" in
    *MainActivity*) mkdir -p {phone}/sdcard/Android/data/edgeembed.demo/files; echo "Status: ok";;
    *BenchmarkActivity*)
        shift 3
        setsid {python} {activity} {phone} "$@" </dev/null >{phone}/activity.log 2>&1 &
        echo $! > {phone}/pid; echo "Starting: Intent {{ cmp=edgeembed.demo/.BenchmarkActivity }}";;
    esac;;
esac""",
}
THERMAL = """IsStatusOverride: false
Cached temperatures:
 Temperature{mValue=99.9, mType=0, mName=CPU0, mStatus=0}
Current temperatures from HAL:
 Temperature{mValue=41.5, mType=0, mName=CPU0, mStatus=0}
 Temperature{mValue=43.25, mType=0, mName=CPU1, mStatus=0}
 Temperature{mValue=33.0, mType=3, mName=skin, mStatus=0}
Current cooling devices from HAL:
"""
EXIT_INFO = """ACTIVITY MANAGER PROCESS EXIT INFO (dumpsys activity exit-info)
  package: edgeembed.demo
    ApplicationExitInfo #0:
      timestamp=2026-01-01 00:00:00.000 pid=1 reason=3 (LOW_MEMORY) subreason=0 (UNKNOWN) status=0
      importance=100 pss=1.0GB rss=1.1GB description=null state=empty
"""


@dataclass
class Phone:
    """The directory."""

    root: Path

    def set(self, name: str, text: str) -> None:
        """Writes one of the files that decide what the phone does."""
        (self.root / name).write_text(text)

    def files(self) -> list[str]:
        """Returns what lies in the app's directory."""
        place = self.root / "sdcard/Android/data/edgeembed.demo/files"
        return sorted(path.name for path in place.iterdir()) if place.is_dir() else []

    def log(self) -> str:
        """Returns every call of adb."""
        return (self.root / "log").read_text()


def make_phone(root: Path) -> Phone:
    """Writes the directory, with `adb` in `root/host`."""
    for name in ("bin", "host", "properties", "sdcard"):
        (root / name).mkdir(parents=True)
    words = {
        "phone": str(root),
        "python": sys.executable,
        "activity": Path(__file__).with_name("stand_in_activity.py"),
    }
    scripts = {root / "host/adb": ADB.replace("{phone}", str(root))}
    for name, body in COMMANDS.items():
        scripts[root / "bin" / name] = f"#!/bin/sh\n{body.format(**words)}\n"
    for path, text in scripts.items():
        path.write_text(text)
        path.chmod(0o755)
    for name, value in PROPERTIES.items():
        (root / "properties" / name).write_text(f"{value}\n")
    phone = Phone(root)
    phone.set("devices", f"{SERIAL}\tdevice\n")
    phone.set("installed", "")
    phone.set("free", "9000000")
    phone.set("behaviour", "")
    phone.set("dumpsys.thermalservice", THERMAL)
    phone.set("dumpsys.activity", EXIT_INFO)
    return phone


def path_with(phone: Phone) -> str:
    """Returns a PATH on which the phone's adb is first."""
    return f"{phone.root / 'host'}{os.pathsep}{os.environ['PATH']}"
