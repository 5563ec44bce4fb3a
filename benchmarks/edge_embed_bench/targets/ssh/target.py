"""The target `ssh://…`: a board or a server with Python, by OpenSSH.

Our wheel and the model file are copied into a private directory there. A virtual environment in it gets the
dependencies, worker processes measure, and everything is removed at the end.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from edge_embed.errors import InputError
from edge_embed.progress import step_bar
from edge_embed_bench.errors import TargetError
from edge_embed_bench.records.record import Machine
from edge_embed_bench.targets.base import Settings
from edge_embed_bench.targets.package import write_wheel
from edge_embed_bench.targets.ssh.connection import Connection
from edge_embed_bench.targets.workers import Workers
from edge_embed_bench.worker.process import WORKER_MODULE, Launch, describe_signal, thread_limits

OLDEST_PYTHON = (3, 10)

DEPENDENCIES = ("ai_edge_litert", "numpy", "sentencepiece", "tokenizers")
"""What the runtime imports."""

PROCESSORS = ("x86_64", "aarch64", "arm64")
"""The 64-bit processors that LiteRT's wheels are built for."""

SIZE = "about 45 MB"

_NAME = re.compile(
    r"ssh://(?P<host>(?:[\w.+-]+@)?(?:\w[\w.-]*|\[[0-9a-fA-F:.]+(?:%\w+)?\]))(?::(?P<port>\d{1,5}))?/?"
)

_CONNECTION_LOST, _SIGNALLED = 255, 128


class Secure:
    """Starts worker processes on another host.

    Args:
        connection: The host.
        settings: The settings of all targets.
    """

    emulator: str | None = None

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._connection, self._settings = connection, settings
        self._python: list[str] = []
        self._path = ""
        self._pushed: dict[Path, str] = {}
        self._numbers = itertools.count(1)

    def prepare(self) -> None:
        """Connects, pushes our wheel, and makes an interpreter that can run it."""
        connection, timeout = self._connection, self._settings.timeout
        with step_bar(f"preparing {connection.host}") as step:
            step("connecting", 0, 4)
            connection.open()
            step("looking for Python", 1, 4)
            python = self._settings.python or "python3"
            self._require_python(python)
            complete = self._has_dependencies(python)
            if not complete and self._settings.python:
                raise TargetError(
                    f"{python} on {connection.host} lacks packages",
                    expected=", ".join(DEPENDENCIES),
                    fix="install them there, or leave --target-python out",
                )
            if not complete and not self._settings.prepare:
                raise TargetError(
                    f"{connection.host} lacks the runtime's dependencies",
                    expected=", ".join(DEPENDENCIES),
                    fix=f"add --prepare-target to let pip fetch them ({SIZE}) into a virtual environment "
                    "that is removed afterwards, or name an interpreter that has them with --target-python",
                )
            step("our wheel", 2, 4)
            with tempfile.TemporaryDirectory(prefix="edge-embed-wheel-") as local:
                packed = write_wheel(Path(local))
                wheel = connection.push(packed, packed.name, timeout)
            step("virtual environment", 3, 4)
            if self._settings.python:
                self._unpack(python, wheel)
            else:
                self._install(wheel, complete)

    def machine(self) -> Machine | None:
        """Returns None: a worker process there describes it."""
        return None

    def push(self, path: Path) -> str:
        """Copies a file or directory there, once."""
        path = Path(os.path.abspath(path))
        if path not in self._pushed:
            name = f"{next(self._numbers)}-{path.name}"  # two files may have the same name
            self._pushed[path] = self._connection.push(path, name, self._settings.timeout)
        return self._pushed[path]

    def directory(self) -> AbstractContextManager[str]:
        """Makes a directory there."""
        return self._directory()

    @contextlib.contextmanager
    def _directory(self) -> Iterator[str]:
        path = f"{self._connection.directory}/cache-{next(self._numbers)}"
        self._connection.run(f"mkdir {shlex.quote(path)}", "making a directory")
        try:
            yield path
        finally:
            with contextlib.suppress(TargetError):  # it is removed with the directory
                self._connection.run(f"rm -rf {shlex.quote(path)}", "removing a directory")

    def launch(self, threads: int) -> Launch:
        """Starts a worker there. The shell around it stores its process id and reports how it ended."""
        self._connection.require()
        pid = shlex.quote(f"{self._connection.directory}/{next(self._numbers)}.pid")
        variables = {"PYTHONPATH": self._path, "PYTHONNOUSERSITE": "1", **thread_limits(threads)}
        if self._settings.python:
            del variables["PYTHONNOUSERSITE"]  # packages of the user count as well
        words = [f"{name}={shlex.quote(value)}" for name, value in variables.items() if value]
        start = " ".join(["exec env", *words, *map(shlex.quote, self._python), "-m", WORKER_MODULE])
        inner = f"echo $$ >{pid}; {start}"
        script = f"cd {shlex.quote(self._connection.directory)} && sh -c {shlex.quote(inner)}; code=$?"
        script += f"; rm -f {pid}; exit $code"

        def kill() -> None:
            with contextlib.suppress(TargetError):
                self._connection.run(f'kill -9 "$(cat {pid})"; rm -f {pid}', "ending a hung process")

        return Launch(self._connection.command(script), dict(os.environ), self._explain, kill)

    def clean_up(self) -> None:
        """Removes our directory there and what runs in it."""
        self._pushed.clear()
        self._connection.close()

    def _explain(self, code: int) -> str | None:
        if code == _CONNECTION_LOST:
            return f"the connection to {self._connection.host} broke"
        if code > _SIGNALLED:
            return f"{describe_signal(code - _SIGNALLED)} on {self._connection.host}"
        return None

    def _require_python(self, python: str) -> None:
        connection, quoted = self._connection, shlex.quote(python)
        found = connection.run(f"command -v {quoted} || true", f"looking for {python}").strip()
        if not found:
            raise TargetError(
                f"{connection.host} has no {python}", fix="apt-get install python3 python3-venv there"
            )
        ask = "import platform as p, struct, sys"
        ask += "; print(*sys.version_info[:2], 8 * struct.calcsize('P'), p.machine())"
        words = connection.run(f"{quoted} -c {shlex.quote(ask)}", f"starting {python}").split()[-4:]
        try:
            major, minor, bits = (int(word) for word in words[:3])
        except ValueError as error:
            raise TargetError(
                f"{python} on {connection.host} is not a Python",
                got=" ".join(words) or "no answer",
                fix="name an interpreter with --target-python",
            ) from error
        if (major, minor) < OLDEST_PYTHON:
            raise TargetError(
                f"{python} on {connection.host} is too old", got=f"{major}.{minor}", expected="3.10 or newer"
            )
        # A 64-bit kernel often carries a 32-bit system, which pip finds no LiteRT for.
        if bits < 64 or words[-1] not in PROCESSORS:
            raise TargetError(
                f"{python} on {connection.host} is of a kind that LiteRT is not built for",
                got=f"{bits} bits on {words[-1]}",
                expected=f"64 bits on {' or '.join(PROCESSORS)}",
                fix="install a 64-bit system there",
            )

    def _has_dependencies(self, python: str) -> bool:
        ask = f"import sys, importlib.util as u; found = all(u.find_spec(n) for n in {DEPENDENCIES})"
        # A virtual environment that is made with the Python of another one does not see its packages.
        ask += (
            "; print(found)" if self._settings.python else "; print(found and sys.prefix == sys.base_prefix)"
        )
        script = f"{shlex.quote(python)} -c {shlex.quote(ask)}"
        return self._connection.run(script, f"asking {python} for packages").strip().endswith("True")

    def _unpack(self, python: str, wheel: str) -> None:
        self._path = f"{self._connection.directory}/package"
        self._python = [python]
        script = f"{shlex.quote(python)} -m zipfile -e {shlex.quote(wheel)} {shlex.quote(self._path)}"
        self._connection.run(script, "unpacking our wheel", self._settings.timeout)

    def _install(self, wheel: str, complete: bool) -> None:
        """Makes the virtual environment, from packages that are installed there or that pip downloads."""
        place = f"{self._connection.directory}/venv"
        self._python = [f"{place}/bin/python"]
        site = "--system-site-packages " if complete else ""
        try:
            self._connection.run(
                f"python3 -m venv {site}{shlex.quote(place)}",
                "making a virtual environment",
                self._settings.timeout,
            )
        except TargetError as error:
            if "ensurepip" not in str(error) and "No module named venv" not in str(error):
                raise
            raise TargetError(
                f"python3 on {self._connection.host} cannot make virtual environments",
                got=error.got,
                fix="apt-get install python3-venv there, or name an interpreter with --target-python",
            ) from error
        how = "--no-index --no-deps" if complete else "--no-cache-dir --only-binary=:all:"
        pip = f"-m pip install --quiet --disable-pip-version-check --no-input {how} {shlex.quote(wheel)}"
        self._connection.run(
            f"TMPDIR={shlex.quote(self._connection.directory)} {shlex.quote(self._python[0])} {pip}",
            "installing the runtime",
            self._settings.timeout,
        )


class Ssh(Workers):
    """Measures on a host that ssh reaches."""

    def __init__(self, name: str, settings: Settings) -> None:
        match = _NAME.fullmatch(name)
        port = int(match["port"]) if match and match["port"] else None
        if match is None or match["host"].startswith("-") or (port is not None and not 0 < port < 1 << 16):
            raise InputError("unusable ssh target", got=repr(name), expected="ssh://[USER@]HOST[:PORT]")
        connection = Connection(re.sub(r"[\[\]]", "", match["host"]), port)
        super().__init__(Secure(connection, settings), settings)
