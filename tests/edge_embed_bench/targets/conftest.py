"""A real OpenSSH server on loopback, and what else stands in for other machines."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_embed_bench.worker.process import package_roots

# Test files are loaded one by one, so a helper beside them is found by its path.
sys.path.insert(0, str(Path(__file__).parent))
from stand_in_phone import make_phone, path_with

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@dataclass
class Server:
    """A running sshd.

    Attributes:
        name: The target.
        home: Where its sessions put their files.
        directory: Keys and configuration; `known_hosts` is what the client trusts.
    """

    name: str
    home: Path
    directory: Path
    process: subprocess.Popen[bytes] | None = None

    def set_environment(self, **variables: str) -> None:
        """Decides what the sessions from now on find in their environment."""
        words = shlex.join(f"{name}={value}" for name, value in {"TMPDIR": self.home, **variables}.items())
        login = self.directory / "login"
        login.write_text(f'#!/bin/sh\nexec env {words} sh -c "$SSH_ORIGINAL_COMMAND"\n')
        login.chmod(0o755)

    def left(self) -> list[str]:
        """Returns what lies in the place for temporary files."""
        return sorted(path.name for path in self.home.iterdir())


def pytest_collection_modifyitems(items):
    for item in items:
        if "sshd" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.device("ssh"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


@pytest.fixture
def sshd(tmp_path, monkeypatch):
    """Starts sshd; `ssh` on PATH is then the real one with the test's own key and known hosts."""
    directory, home, port = tmp_path / "sshd", tmp_path / "there", free_port()
    directory.mkdir(mode=0o700)
    home.mkdir()
    keygen(directory / "host")
    keygen(directory / "user")
    shutil.copy(directory / "user.pub", directory / "authorized_keys")
    (directory / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {directory}/host\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {directory}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
        f"KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
        f"ForceCommand {directory}/login\n"
    )
    made = Server(f"ssh://{getpass.getuser()}@127.0.0.1:{port}", home, directory)
    made.set_environment()
    (directory / "known_hosts").write_text(f"[127.0.0.1]:{port} {(directory / 'host.pub').read_text()}")
    Path("/run/sshd").mkdir(exist_ok=True) if os.getuid() == 0 else None
    process = subprocess.Popen(
        [str(SSHD), "-D", "-e", "-f", str(directory / "config")],
        stderr=(directory / "log").open("wb"),
        start_new_session=True,
    )
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        if process.poll() is not None:
            pytest.fail(f"sshd does not start: {(directory / 'log').read_text().strip()}")
        time.sleep(0.05)
    wrapper = tmp_path / "bin" / "ssh"
    wrapper.parent.mkdir()
    options = ["-F", "none", "-i", str(directory / "user"), "-o", "IdentitiesOnly=yes"]
    options += ["-o", f"UserKnownHostsFile={directory}/known_hosts", "-o", "GlobalKnownHostsFile=none"]
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} {shlex.join(options)} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    made.process = process
    yield made
    process.kill()
    process.wait()


@pytest.fixture
def phone(tmp_path, monkeypatch):
    """A stand-in phone whose adb is on PATH."""
    made = make_phone(tmp_path / "phone")
    monkeypatch.setenv("PATH", path_with(made))
    roots = [str(root) for root in package_roots()]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(roots))
    return made
