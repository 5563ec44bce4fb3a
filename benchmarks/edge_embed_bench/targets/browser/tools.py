"""The tools of the browser target: Chromium and Node.js, and two npm packages in the cache."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edge_embed.engine.cache_directory import default_directory
from edge_embed.progress import step_bar
from edge_embed_bench.errors import TargetError

PACKAGES = ("@litertjs/core@2.5.3", "playwright-core@1.65.1")
"""LiteRT for the browser, and the library that controls Chromium. All machines measure these versions."""

SIZE = "50 MB"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OLDEST_NODE = 18

_WORDS_KEPT = 400


@dataclass(frozen=True)
class Tools:
    """The paths of the tools: two programs, and the directory with `node_modules`."""

    chromium: str
    node: str
    modules: Path


def find(*, prepare: bool, timeout: float) -> Tools:
    """Returns the tools, and installs the npm packages first if that is allowed and needed.

    Args:
        prepare: Whether they may be downloaded.
        timeout: Seconds for the download.

    Raises:
        TargetError: If a program is missing or too old, or the packages are not there and may not be
            downloaded; then nothing is kept.
    """
    chromium, node = _chromium(), _node()
    modules = directory()
    if not modules.is_dir():
        if not prepare:
            raise TargetError(
                "the browser target needs npm packages that are not here yet",
                got=f"nothing at {modules}",
                expected=", ".join(PACKAGES),
                fix=f"add --prepare-target to install them there: {SIZE}, once",
            )
        _install(modules, timeout)
    return Tools(chromium, node, modules)


def directory() -> Path:
    """Returns where the npm packages are kept, named after their versions.

    Raises:
        TargetError: If there is no directory to keep anything in.
    """
    cache = default_directory()
    if cache is None:
        raise TargetError(
            "there is nowhere to keep the browser's packages", fix="set EDGE_EMBED_CACHE to a directory"
        )
    key = hashlib.sha256("\n".join(PACKAGES).encode()).hexdigest()[:12]
    return cache / "targets" / f"browser-{key}"


def _chromium() -> str:
    named = os.environ.get("CHROME_PATH")
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise TargetError(
            "no Chromium is installed",
            got=f"CHROME_PATH={named}" if named else None,
            expected=" or ".join(BROWSERS[:3]),
            fix="apt-get install chromium, or name one with CHROME_PATH",
        )
    return found


def _node() -> str:
    node = shutil.which("node")
    fix = f"install Node.js {OLDEST_NODE} or newer"
    if node is None:
        raise TargetError("no Node.js is installed, which drives the browser", fix=fix)
    words = _run([node, "--version"], "asking Node.js for its version", 60).strip()
    version = re.match(r"v(\d+)", words)
    if version is None or int(version[1]) < OLDEST_NODE:
        raise TargetError("this Node.js is too old", got=words, expected=f"{OLDEST_NODE}", fix=fix)
    return node


def _install(modules: Path, timeout: float) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise TargetError("no npm is installed, which fetches the browser's packages", fix="install npm")
    modules.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="building-", dir=modules.parent) as work:
        built = Path(work) / "modules"
        built.mkdir()
        # Scripts of packages would run with the user's rights; these two need none.
        command = [
            npm,
            "install",
            "--prefix",
            str(built),
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            *PACKAGES,
        ]
        with step_bar("installing the browser's packages") as step:
            step("npm install", 0, 1)
            _run(command, "installing the browser's packages", timeout)
        try:
            os.replace(built, modules)
        except OSError as error:
            if not modules.is_dir():  # unless another process made it first
                raise TargetError(f"cannot keep {modules}", got=error.strerror) from error


def _run(command: list[str], what: str, timeout: float) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TargetError(f"{what} took longer than {timeout:g} s", fix="raise --timeout") from error
    except OSError as error:
        raise TargetError(f"{what} failed", got=str(error)) from error
    if done.returncode:
        words = " ".join((done.stderr or done.stdout).decode("utf-8", "replace").split())[-_WORDS_KEPT:]
        raise TargetError(f"{what} failed", got=f"exit code {done.returncode}: {words}")
    return done.stdout.decode("utf-8", "replace")
