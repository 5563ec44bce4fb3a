"""The emulated ARM processors: for real where the tools and the sysroot are, their absence everywhere."""

import os
import shutil
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed.engine.cache_directory import default_directory
from edge_embed.errors import InputError
from edge_embed_bench.errors import TargetError
from edge_embed_bench.records.model import Model
from edge_embed_bench.records.record import OK, Cell
from edge_embed_bench.reports.columns import remarks
from edge_embed_bench.targets.base import Settings, open_target
from edge_embed_bench.targets.emulated import qemu, sysroot
from edge_embed_bench.targets.emulated import target as emulated
from edge_embed_bench.worker import token_ids
from edge_embed_bench.worker.process import WorkerProcess

CACHE = default_directory()
"""The user's own cache: what these tests need is too much to download for a test."""


@pytest.fixture
def kept(monkeypatch):
    """The target finds what the user has fetched, although everything else has a cache of its own."""
    for tool in (qemu, sysroot):
        place = CACHE / "targets" / tool.directory().name
        monkeypatch.setattr(tool, "directory", partial(Path, place))


def vectors(launch, path, module, batch):
    with WorkerProcess(module, threads=1, launch=launch) as worker:
        worker.ask("load", model=str(path), artifact=None, cache="memory", threads=1, length=16)
        return np.array(worker.ask("embed", batch=batch, calls=1, vectors=True)["vectors"])


OWN = "edge_embed_bench.worker.own_engine:EdgeEmbed"
GOLDEN = Path(__file__).parents[2] / "golden" / "schema1"


@pytest.mark.device("emulator")
@pytest.mark.parametrize("cpu", emulated.CPUS)
def test_vectors_are_those_of_this_machine(kept, tiny_model, cpu):
    """In float32, in int8, and with int4 weights."""
    transport = emulated.Emulator(cpu, Settings())
    transport.prepare()
    lowest = {}
    try:
        for path in (tiny_model, GOLDEN / "bert.tflite", GOLDEN / "gemma.tflite"):
            batch = token_ids.batch(Model.open(path).manifest.tokenizer, 16, 4, seed=0)
            with Embedder(path, weight_cache="memory", num_threads=1) as model:
                here = np.stack([model.encode_tokens(row) for row in batch])
            there = vectors(transport.launch(1), path, OWN, batch)
            lowest[path.name] = float(np.min(np.sum(here * there, axis=1)))
    finally:
        transport.clean_up()
    assert min(lowest.values()) >= 0.9999, lowest
    assert lowest[tiny_model.name] >= 0.99999


@pytest.mark.device("emulator")
def test_a_record_says_what_emulated_it(kept, subject, plan):
    name = "emulated:aarch64"
    target = open_target(name, Settings())
    target.prepare()
    (record,) = target.measure([subject], Cell(name, "cpu", 8, 1, 1), type(plan)(plan.run, loads=1))
    view = Path(target._transport._view.name)
    target.close()
    assert (record.status, record.error) == (OK, None)
    machine = record.machine
    assert (machine.architecture, machine.cpu) == ("aarch64", "ARM implementer 0x41 part 0xd0b")
    assert {"asimddp", "asimdhp"} <= set(machine.features)
    assert machine.emulator.startswith("qemu-aarch64 ")
    assert machine.governor is None
    assert record.conditions.temperature_before_c is None
    assert any("not comparable with a device's" in line for line in remarks([record]))
    assert not view.exists()


@pytest.mark.device("emulator")
@pytest.mark.parametrize("cpu", emulated.CPUS)
def test_the_processor_and_its_description_agree(kept, cpu):
    """What qemu's auxiliary vector says is what the cpuinfo that we write says."""
    transport = emulated.Emulator(cpu, Settings())
    transport.prepare()
    try:
        launch = transport.launch(1)
        at = list(launch.command).index("-m")
        script = "from edge_embed.engine.litert.installed import has_arm_atomics as f; print(f())"
        script += "; print(open('/proc/cpuinfo').read())"
        done = subprocess.run(
            [*launch.command[:at], "-c", script],
            env=dict(launch.environment),
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        transport.clean_up()
    expected = emulated.CPUS[cpu]
    facts = dict(line.split("\t: ") for line in done.stdout.splitlines() if "\t: " in line)
    assert done.stdout.startswith(str("atomics" in expected.features))
    assert set(expected.features.split()) <= set(facts["Features"].split())
    assert (facts["CPU part"], facts["CPU implementer"]) == (expected.part, expected.implementer)


@pytest.mark.parametrize(
    "name", ["emulated", "emulated:", "emulated:x86", "emulated:aarch64/", "emulated:aarch64/z80"]
)
def test_names_that_are_none(name):
    with pytest.raises(InputError, match=r"(?s)unknown emulated target.*emulated:aarch64/cortex-a53"):
        open_target(name, Settings())


def stub(directory: Path, name: str, script: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


OLD, NEW = ("echo 'qemu-aarch64 version 7.2.22 (Debian)'", "echo 'qemu-aarch64 version 11.1.3 (Debian)'")


@pytest.fixture
def unpacks(tmp_path):
    """`unpacks(script)` is what a stand-in for mmdebstrap does: its emulator is a stand-in as well."""

    def make(script):
        stub(tmp_path / "package", "qemu-aarch64", script)
        return (
            f'echo "$@" >> {tmp_path}/log; for root; do :; done; mkdir -p $root/usr/bin\n'
            f"cp {tmp_path}/package/qemu-aarch64 $root/usr/bin/"
        )

    return make


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """`programs("name", "script")` makes a program, and no other one is found."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: which(name, path=str(tmp_path / "bin")))
    return partial(stub, tmp_path / "bin")


def test_missing_tools_are_named(programs):
    with pytest.raises(TargetError, match=r"(?s)not installed.*--prepare-target.*apt-get install qemu-user"):
        open_target("emulated:aarch64", Settings()).prepare()
    with pytest.raises(TargetError, match="apt-get install mmdebstrap"):
        open_target("emulated:aarch64", Settings(prepare=True)).prepare()


def test_nothing_is_downloaded_unasked(programs, tmp_path):
    programs("qemu-aarch64-static", OLD)
    programs("mmdebstrap", f"touch {tmp_path}/ran")
    with pytest.raises(TargetError, match=r"(?s)not here yet.*--prepare-target.* MB to fetch"):
        open_target("emulated:aarch64", Settings()).prepare()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("cpu", ["cortex-a710", "max"])
def test_an_old_emulator_is_refused_for_new_cores(programs, cpu):
    programs("qemu-aarch64-static", OLD)
    with pytest.raises(TargetError, match=rf"(?s)too old.*{cpu}.*aarch64 7\.2.*10\.1 or newer.*--prepare-"):
        open_target(f"emulated:aarch64/{cpu}", Settings()).prepare()
    programs("qemu-aarch64", NEW)  # the system's newer one is taken instead
    with pytest.raises(TargetError, match="arm64 system"):
        open_target(f"emulated:aarch64/{cpu}", Settings()).prepare()


def test_a_newer_emulator_is_fetched_once(programs, unpacks, tmp_path):
    programs("qemu-aarch64-static", OLD)
    programs("mmdebstrap", unpacks(NEW))
    for _ in range(2):
        found = qemu.find(qemu.NEW_CORES, "max", prepare=True, timeout=60)
        assert (found.version, found.name) == ((11, 1), "qemu-aarch64 11.1")
        assert Path(found.path) == qemu.directory() / "qemu-aarch64"
    (command,) = (tmp_path / "log").read_text().splitlines()
    assert "--include=qemu-user sid " in command
    assert [path.name for path in qemu.directory().iterdir()] == ["qemu-aarch64"]
    assert qemu.find(qemu.ANY, "cortex-a76", prepare=False, timeout=60).version == (7, 2)


def test_a_fetch_that_fails_leaves_nothing(programs, unpacks):
    for script, problem in ((unpacks(OLD), "is too old"), ("exit 100", "fetching qemu-user .* failed")):
        programs("mmdebstrap", script)
        with pytest.raises(TargetError, match=problem):
            qemu.find(qemu.NEW_CORES, "max", prepare=True, timeout=60)
        assert list(qemu.directory().parent.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "timeout", "problem"),
    [
        (
            "echo 'E: unable to connect' >&2; exit 25",
            60,
            r"(?s)packages failed.*25: E: unable to connect",
        ),
        ("mkdir -p $7; exec sleep 30", 0.5, "longer than 0.5 s"),
    ],
)
def test_a_build_that_fails_leaves_nothing(programs, script, timeout, problem):
    programs("qemu-aarch64-static", NEW)
    programs("mmdebstrap", script)
    with pytest.raises(TargetError, match=problem):
        open_target("emulated:aarch64", Settings(prepare=True, timeout=timeout)).prepare()
    assert list(sysroot.directory().parent.iterdir()) == []
