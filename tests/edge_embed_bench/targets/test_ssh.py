"""The ssh target against a real server on loopback, and everything that can go wrong on the way."""

import os
import re
import subprocess
import sys
import sysconfig
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edge_embed.errors import InputError
from edge_embed_bench.errors import TargetError
from edge_embed_bench.records.record import FAILED, OK, Cell
from edge_embed_bench.targets.base import Settings, open_target
from edge_embed_bench.targets.ssh import connection
from edge_embed_bench.targets.ssh import target as ssh

PYTHON = Settings(python=sys.executable, timeout=60)


def run(name, subjects, plan, settings=PYTHON):
    target = open_target(name, settings)
    try:
        target.prepare()
        return list(target.measure(subjects, Cell(name, "cpu", 8, 1, 1), plan))
    finally:
        target.close()


def prepare(name, settings=PYTHON):
    target = open_target(name, settings)
    try:
        target.prepare()
    finally:
        target.close()


def test_a_record_from_there(sshd, subject, plan):
    (record,) = run(sshd.name, [subject], plan)
    assert (record.status, record.error) == (OK, None)
    assert record.cell.target == sshd.name
    assert record.storage.file_bytes == subject.model.path.stat().st_size
    assert record.storage.cache_bytes > 0
    assert record.conditions.cores
    assert sshd.left() == []


def test_two_files_of_one_name_and_an_artifact(sshd, subject, plan, tmp_path, fake):
    (tmp_path / "form/part").mkdir(parents=True)
    (tmp_path / "form/part/weights").write_bytes(b"x" * 1000)
    peer = fake("peer", artifact=tmp_path / "form")
    target = open_target(sshd.name, PYTHON)
    other = tmp_path / "other" / subject.model.path.name
    other.parent.mkdir()
    other.write_bytes(subject.model.path.read_bytes())
    try:
        target.prepare()
        place = target._transport
        assert place.push(subject.model.path) != place.push(other)
        first = place.push(subject.model.path)
        pushed = Path(place.push(peer.artifact))
        assert (pushed / "part/weights").read_bytes() == b"x" * 1000
        assert Path(first).read_bytes() == other.read_bytes()
        directory = Path(first).parent
        assert directory.stat().st_mode & 0o777 == 0o700
    finally:
        target.close()
    assert not directory.exists()


def test_a_virtual_environment_of_what_is_there(sshd, subject, plan, monkeypatch):
    """`python3` there has the packages: nothing is fetched, and the wheel is installed without an index."""
    python = sshd.directory / "bin/python3"
    python.parent.mkdir()
    base = Path(sys.base_prefix) / "bin/python3"
    python.write_text(f'#!/bin/sh\nexec {base} "$@"\n')
    python.chmod(0o755)
    sshd.set_environment(
        PATH=f"{python.parent}:{os.environ['PATH']}", PYTHONPATH=sysconfig.get_path("platlib")
    )
    asked = []
    honest = connection.Connection.run

    def spy(self, script, doing, timeout=60.0):
        asked.append(script)
        return honest(self, script, doing, timeout)

    monkeypatch.setattr(connection.Connection, "run", spy)
    (record,) = run(sshd.name, [subject], replace(plan, loads=1), Settings(timeout=120))
    assert (record.status, record.error) == (OK, None)
    assert any("--no-index --no-deps" in script for script in asked)
    assert sshd.left() == []


def test_nothing_is_downloaded_unasked(sshd, monkeypatch):
    monkeypatch.setattr(ssh.Secure, "_has_dependencies", lambda self, python: False)
    with pytest.raises(TargetError, match=r"(?s)lacks the runtime's dependencies.*--prepare-target"):
        prepare(sshd.name, Settings())
    with pytest.raises(TargetError, match=r"(?s)lacks packages.*leave --target-python out"):
        prepare(sshd.name)
    assert sshd.left() == []


@pytest.mark.parametrize(
    ("python", "problem"),
    [
        ("/nonexistent/python3", "has no /nonexistent/python3"),
        ("false", "starting false"),
    ],
)
def test_no_python_there(sshd, python, problem):
    with pytest.raises(TargetError, match=problem):
        prepare(sshd.name, Settings(python=python))
    assert sshd.left() == []


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("3 8 64 x86_64", r"(?s)too old.*got: 3\.8.*3\.10 or newer"),
        ("3 11 32 aarch64", r"(?s)LiteRT is not built for.*got: 32 bits on aarch64.*64-bit system"),
        ("3 11 32 armv7l", r"(?s)LiteRT is not built for.*got: 32 bits on armv7l.*expected: 64 bits"),
        ("3 11 64 riscv64", r"(?s)LiteRT is not built for.*got: 64 bits on riscv64"),
        ("welcome", r"(?s)is not a Python.*got: welcome.*--target-python"),
    ],
)
def test_a_python_that_cannot_run_it(sshd, tmp_path, answer, problem):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {answer}\n")
    python.chmod(0o755)
    with pytest.raises(TargetError, match=problem):
        prepare(sshd.name, Settings(python=str(python)))
    assert sshd.left() == []


def test_the_host_key_has_changed(sshd):
    known = sshd.directory / "known_hosts"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", sshd.directory / "other"], check=True
    )
    known.write_text(f"{known.read_text().split()[0]} {(sshd.directory / 'other.pub').read_text()}")
    with pytest.raises(TargetError, match=r"(?s)host key of .* has changed.*ssh-keygen -R"):
        prepare(sshd.name)
    known.write_text("")
    with pytest.raises(TargetError, match=r"(?s)host key of .* is not known.*connect once"):
        prepare(sshd.name)


def test_not_let_in(sshd):
    (sshd.directory / "authorized_keys").write_text("")
    with pytest.raises(TargetError, match=r"(?s)refused to let us in.*Permission denied.*ssh-agent"):
        prepare(sshd.name)


def test_nobody_there(sshd):
    sshd.process.terminate()
    sshd.process.wait()
    with pytest.raises(TargetError, match=r"(?s)cannot be reached.*Connection refused"):
        prepare(sshd.name)
    with pytest.raises(TargetError, match="is not known by that name"):
        prepare("ssh://host.invalid")


def test_no_room_as_df_says(sshd, tmp_path):
    df = tmp_path / "small/df"
    df.parent.mkdir()
    df.write_text("#!/bin/sh\necho Filesystem 1024-blocks Used Available\necho /dev/x 9 9 0 100% /\n")
    df.chmod(0o755)
    sshd.set_environment(PATH=f"{df.parent}:{os.environ['PATH']}")
    with pytest.raises(TargetError, match=r"(?s)no room left on .*0 MB free.*TMPDIR"):
        prepare(sshd.name)
    assert sshd.left() == []


def test_a_disk_that_fills_on_the_way(sshd, tmp_path):
    """A tar there that writes to the device that is always full."""
    tar = tmp_path / "full/tar"
    tar.parent.mkdir()
    tar.write_text("#!/bin/sh\ncat >/dev/full\n")
    tar.chmod(0o755)
    sshd.set_environment(PATH=f"{tar.parent}:{os.environ['PATH']}")
    with pytest.raises(
        TargetError, match=r"(?s)no room left on .*copying edge_embed.*No space left on device"
    ):
        prepare(sshd.name)
    assert sshd.left() == []


@pytest.mark.parametrize(
    ("embed", "problem"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", r"SIGKILL, as when memory runs out on \S*127\.0\.0\.1"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("raise MemoryError", "out of memory"),
        ("time.sleep(60)", "no answer to embed within 2 s"),
    ],
)
def test_a_worker_that_dies_there_is_a_record(
    sshd, fake, plan, subject, tmp_path, monkeypatch, embed, problem
):
    bad = fake("bad", embed=embed)
    module = (tmp_path / "fake_bad.py").read_text()
    target = open_target(sshd.name, PYTHON)
    try:
        target.prepare()
        package = Path(target._transport._connection.directory) / "package"
        (package / "fake_bad.py").write_text(module)
        patience = 2 if "sleep" in embed else 60
        quick = replace(plan, loads=1, timeout=patience)
        records = list(target.measure([bad, subject], Cell(sshd.name, "cpu", 8, 1, 1), quick))
        assert not [p for p in package.parent.glob("*.pid") if "sleep" in embed]
    finally:
        target.close()
    assert records[0].status == FAILED
    assert re.search(problem, records[0].error), records[0].error
    if "sleep" not in embed:
        assert records[1].status == OK
    assert sshd.left() == []


def test_a_connection_that_breaks(sshd, fake, plan, subject, tmp_path):
    target = open_target(sshd.name, PYTHON)
    target.prepare()
    place = target._transport
    directory = Path(place._connection.directory)
    threading.Timer(0.0, place._connection._keeper.kill).start()
    records = list(target.measure([subject, subject], Cell(sshd.name, "cpu", 8, 1, 1), plan))
    with pytest.warns(UserWarning, match="may be left there"):
        target.close()
    assert [record.status for record in records] == [FAILED, FAILED]
    assert "connection" in records[1].error
    for _ in range(100):  # the keeper there notices by itself
        if not directory.exists():
            break
        time.sleep(0.1)
    assert sshd.left() == []


def test_a_connection_that_breaks_while_it_measures(sshd, fake, plan, tmp_path):
    keeper = tmp_path / "keeper"
    bad = fake("cut", embed=f"os.kill(int(open({str(keeper)!r}).read()), 9); time.sleep(30)")
    target = open_target(sshd.name, PYTHON)
    target.prepare()
    connection = target._transport._connection
    directory = Path(connection.directory)
    keeper.write_text(str(connection._keeper.pid))
    (directory / "package/fake_cut.py").write_text((tmp_path / "fake_cut.py").read_text())
    (record,) = target.measure([bad], Cell(sshd.name, "cpu", 8, 1, 1), plan)
    with pytest.warns(UserWarning, match="may be left there"):
        target.close()
    assert record.status == FAILED
    assert re.search(r"died in embed.*the connection to \S+ broke", record.error), record.error
    for _ in range(100):
        if not directory.exists():
            break
        time.sleep(0.1)
    assert sshd.left() == []


def test_a_step_that_hangs(sshd):
    target = open_target(sshd.name, PYTHON)
    try:
        target.prepare()
        with pytest.raises(TargetError, match=r"napping on \S+ took longer than 0\.5 s"):
            target._transport._connection.run("sleep 4", "napping", 0.5)
    finally:
        target.close()
    assert sshd.left() == []


def test_a_copy_that_hangs(sshd, tmp_path):
    """A tar there that reads nothing."""
    tar = tmp_path / "slow/tar"
    tar.parent.mkdir()
    tar.write_text("#!/bin/sh\nexec sleep 6\n")
    tar.chmod(0o755)
    sshd.set_environment(PATH=f"{tar.parent}:{os.environ['PATH']}")
    with pytest.raises(TargetError, match=r"copying edge_embed\S+ to \S+ took longer than 2 s"):
        prepare(sshd.name, replace(PYTHON, timeout=2))
    assert sshd.left() == []


@pytest.mark.parametrize(
    "name",
    [
        "ssh:",
        "ssh://",
        "ssh://-oProxyCommand=x",
        "ssh://a b",
        "ssh://h:0",
        "ssh://h:99999",
        "ssh://u@",
        "ssh:h",
    ],
)
def test_names_that_are_none(name):
    with pytest.raises(InputError, match="unusable ssh target"):
        open_target(name, Settings())


def test_no_client(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match=r"(?s)no ssh client.*openssh-client"):
        prepare("ssh://localhost")
