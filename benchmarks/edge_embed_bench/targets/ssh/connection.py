"""One host over OpenSSH: commands, files, and a private directory that is always removed at the end.

A keeper session makes the directory. When its input ends (this process closed it or died, or the connection
broke), it ends the processes of this run and removes the directory. All other sessions share its connection.
"""

from __future__ import annotations

import contextlib
import queue
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from edge_embed.progress import progress_bar
from edge_embed_bench.errors import TargetError
from edge_embed_bench.files import bytes_under
from edge_embed_bench.targets.base import require_room

CONNECT_S = 15
STEP_S = 60.0
"""Longest wait in seconds for a small step on the host."""

OPTIONS = (
    *("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", f"ConnectTimeout={CONNECT_S}"),
    *("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3", "-o", "LogLevel=ERROR"),
    *("-o", "RequestTTY=no", "-o", "ForwardAgent=no", "-o", "ForwardX11=no", "-o", "ControlPersist=no"),
)
"""ssh asks no question and accepts no unknown host key."""

_MARK = "edge-embed-directory "
_KEEPER = f"""umask 077
dir=$(mktemp -d "${{TMPDIR:-/var/tmp}}/edge-embed-XXXXXXXXXX" 2>/dev/null) ||
dir=$(mktemp -d /tmp/edge-embed-XXXXXXXXXX) || exit 1
trap "" HUP INT TERM PIPE
echo "{_MARK}$dir"
cat >/dev/null
for file in "$dir"/*.pid; do [ -f "$file" ] && kill -9 "$(cat "$file")" 2>/dev/null; done
rm -rf "$dir" || {{ sleep 1; rm -rf "$dir"; }}"""
# /var/tmp before /tmp, which is memory on many boards.

_WORDS_KEPT = 500
_REASONS = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key of {host} has changed",
        "find out why; if it was installed anew, forget the old key with ssh-keygen -R and connect by hand",
    ),
    (
        "host key is known for",
        "the host key of {host} is not known",
        "connect once with ssh and compare its fingerprint",
    ),
    (
        "Host key verification failed",
        "the host key of {host} cannot be verified",
        "connect once with ssh and compare its fingerprint",
    ),
    (
        "Permission denied",
        "{host} refused to let us in",
        "set up a key that needs no passphrase here (ssh-agent)",
    ),
    ("Could not resolve hostname", "{host} is not known by that name", "check the name"),
    ("Connection refused", "{host} cannot be reached", "check that an ssh server runs there"),
    ("timed out", "{host} cannot be reached", "check that it is on and in this network"),
    ("No route to host", "{host} cannot be reached", "check that it is on and in this network"),
    ("unreachable", "{host} cannot be reached", "check that it is on and in this network"),
)


class Connection:
    """A host and our directory on it.

    Args:
        host: `[USER@]HOST`.
        port: None for what ssh's own configuration says.

    Attributes:
        directory: Our directory there, after `open`.
    """

    def __init__(self, host: str, port: int | None) -> None:
        self.host, self.directory = host, ""
        self._port = ["-p", str(port)] if port else []
        self._keeper: subprocess.Popen[bytes] | None = None
        self._local: tempfile.TemporaryDirectory[str] | None = None

    def open(self) -> None:
        """Connects and makes the directory.

        Raises:
            TargetError: If the host cannot be reached, trusted or entered.
        """
        if shutil.which("ssh") is None:
            raise TargetError("no ssh client is installed", fix="apt-get install openssh-client")
        self._local = tempfile.TemporaryDirectory(prefix="edge-embed-ssh-")
        with tempfile.TemporaryFile() as words:
            self._keeper = subprocess.Popen(
                self.command(_KEEPER, master=True),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=words,
                start_new_session=True,
            )
            assert self._keeper.stdout is not None
            self.directory = _first_answer(self._keeper.stdout, CONNECT_S + STEP_S)
            if not self.directory:
                code = self._keeper.poll()
                if code is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        code = self._keeper.wait(1)  # its output has ended, so it is about to
                if code is None:
                    self.close(wait=0)
                    raise TargetError(
                        f"{self.host} gave no answer", fix="log in by hand and see what it says"
                    )
                words.seek(0)
                said = words.read().decode("utf-8", "replace")
                self.close()
                raise self.failure("connecting", code, said)

    def command(self, script: str, *, master: bool = False) -> list[str]:
        """Returns the command that runs a POSIX shell script there with any login shell."""
        if self._local is None:
            raise self.lost()
        share = ["-o", f"ControlMaster={'yes' if master else 'no'}"]
        share += ["-o", f"ControlPath={self._local.name}/s"]
        return ["ssh", *OPTIONS, *share, *self._port, "--", self.host, f"exec sh -c {shlex.quote(script)}"]

    def run(self, script: str, doing: str, timeout: float = STEP_S) -> str:
        """Runs a script there and returns what it printed.

        Raises:
            TargetError: If it fails or takes too long; `doing` says what was being done.
        """
        self.require()
        try:
            done = subprocess.run(
                self.command(script),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise TargetError(f"{doing} on {self.host} took longer than {timeout:g} s") from error
        if done.returncode:
            raise self.failure(doing, done.returncode, done.stderr.decode("utf-8", "replace"))
        return done.stdout.decode("utf-8", "replace")

    def push(self, path: Path, name: str, timeout: float) -> str:
        """Copies a file or directory into our directory there, under a name, and returns its path.

        Raises:
            TargetError: If there is no room, or it does not arrive complete.
        """
        size = bytes_under(path) if path.is_dir() else path.stat().st_size
        self._require_room(size)
        place = f"{self.directory}/{name}"
        script = f"cd {shlex.quote(self.directory)} && exec tar -xf -"
        doing = f"copying {path.name}"
        with tempfile.TemporaryFile() as words:
            process = subprocess.Popen(
                self.command(script),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=words,
                start_new_session=True,
            )
            timer = threading.Timer(timeout, process.kill)
            timer.start()
            try:
                _send(path, name, process, progress_bar(size, f"{path.name} to {self.host}", unit="B"))
                code = process.wait()
            except BaseException:
                process.kill()
                process.wait()
                raise
            finally:
                timer.cancel()
            words.seek(0)
            said = words.read().decode("utf-8", "replace")
        if code == -9:
            raise TargetError(f"{doing} to {self.host} took longer than {timeout:g} s")
        if code:
            raise self.failure(doing, code, said)
        return place

    def require(self) -> None:
        """Checks the connection.

        Raises:
            TargetError: If it was closed or broke.
        """
        if self._keeper is None or self._keeper.poll() is not None:
            raise self.lost()

    def lost(self) -> TargetError:
        """Returns the error of a broken connection."""
        return TargetError(f"the connection to {self.host} is gone", fix="check the host and measure again")

    def failure(self, doing: str, code: int, words: str) -> TargetError:
        """Returns the error of a command that failed there, with the reason that ssh or it gave."""
        said = " ".join(words.split())[-_WORDS_KEPT:]
        for sign, what, fix in _REASONS:
            if code == 255 and sign in words:
                return TargetError(what.format(host=self.host), got=said, fix=fix)
        if "No space left on device" in words or "Disk quota exceeded" in words:
            return TargetError(
                f"no room left on {self.host}, {doing}",
                got=said,
                fix="make room there, or set TMPDIR for the user there to a larger disk",
            )
        if code == 255:
            return TargetError(f"the connection to {self.host} broke, {doing}", got=said or None)
        return TargetError(
            f"{doing} on {self.host} failed", got=f"exit code {code}{': ' if said else ''}{said}"
        )

    def close(self, wait: float = STEP_S) -> None:
        """Makes the keeper end our processes there and remove our directory. Raises nothing.

        Args:
            wait: Longest wait for the keeper in seconds.
        """
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            assert keeper.stdin is not None
            assert keeper.stdout is not None
            with contextlib.suppress(OSError):
                keeper.stdin.close()
            try:
                code = keeper.wait(wait)
            except subprocess.TimeoutExpired:
                keeper.kill()
                code = keeper.wait()
            keeper.stdout.close()
            if self.directory and code:
                # The keeper there notices the end of the connection too, but we cannot see it.
                warnings.warn(
                    f"the connection to {self.host} broke; {self.directory} may be left there", stacklevel=2
                )
        if self._local is not None:
            self._local.cleanup()
            self._local = None

    def _require_room(self, size: int) -> None:
        answer = self.run(f"df -Pk {shlex.quote(self.directory)}", "asking for free space")
        fix = "make room there, or set TMPDIR for the user there to a larger disk"
        require_room(answer, size, self.host, self.directory, fix)


def _first_answer(stream: IO[bytes], timeout: float) -> str:
    """Returns the directory that the keeper prints, after what the login prints; empty if there is none."""
    answers: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in stream:
            if line.startswith(_MARK.encode()):
                answers.put(line.decode("utf-8", "replace")[len(_MARK) :].rstrip("\n"))
                return
        answers.put("")

    threading.Thread(target=read, daemon=True).start()
    try:
        return answers.get(timeout=timeout)
    except queue.Empty:
        return ""


def _send(
    path: Path,
    name: str,
    process: subprocess.Popen[bytes],
    progress: contextlib.AbstractContextManager[Callable[[int], object]],
) -> None:
    """Writes a tar stream into the input of a process. If the process has ended, its exit code is checked."""
    assert process.stdin is not None
    with (
        contextlib.suppress(BrokenPipeError),
        process.stdin as sink,
        progress as advance,
        tarfile.open(fileobj=sink, mode="w|", format=tarfile.GNU_FORMAT) as archive,
    ):
        for place, file in _members(path, name):
            entry = archive.gettarinfo(str(file), place)
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            if entry.isfile():
                with file.open("rb") as content:
                    archive.addfile(entry, _Counted(content, advance))
            else:
                archive.addfile(entry)


def _members(path: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Yields names in the archive and files, links followed."""
    yield name, path.resolve()
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            yield f"{name}/{file.relative_to(path).as_posix()}", file.resolve()


class _Counted:
    def __init__(self, stream: IO[bytes], advance: Callable[[int], object]) -> None:
        self._stream, self._advance = stream, advance

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._advance(len(data))
        return data
