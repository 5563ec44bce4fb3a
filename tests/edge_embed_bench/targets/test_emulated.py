"""The emulated ARM processors: for real where the tools and the sysroot are, their absence everywhere."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed.engine.weight_cache import default_directory
from edge_embed.errors import InputError
from edge_embed_bench.errors import TargetError
from edge_embed_bench.records.model import Model
from edge_embed_bench.records.record import OK, Cell
from edge_embed_bench.reports.columns import remarks
from edge_embed_bench.synthetic.models import build
from edge_embed_bench.targets.base import Settings, open_target
from edge_embed_bench.targets.emulated import sysroot
from edge_embed_bench.targets.emulated import target as emulated
from edge_embed_bench.worker import token_ids
from edge_embed_bench.worker.process import WorkerProcess

KEPT = default_directory()
"""The user's own cache: a sysroot is too much to build for a test."""


def _why_not() -> str | None:
    if shutil.which("qemu-aarch64-static") is None:
        return "needs qemu-user-static"
    found = KEPT is not None and (KEPT / "targets" / sysroot.directory().name).is_dir()
    return None if found else "needs the sysroot, which edge_embed bench --prepare-target builds"


real = pytest.mark.skipif(_why_not() is not None, reason=str(_why_not()))


@pytest.fixture
def kept(monkeypatch):
    """The target finds the user's sysroot, although everything else has a cache of its own."""
    root = KEPT / "targets" / sysroot.directory().name
    monkeypatch.setattr(sysroot, "directory", lambda: root)


def vectors(launch, path, module, batch):
    with WorkerProcess(module, threads=1, launch=launch) as worker:
        worker.ask("load", model=str(path), artifact=None, cache="memory", threads=1, length=16)
        return np.array(worker.ask("embed", batch=batch, calls=1, vectors=True)["vectors"])


@real
def test_vectors_are_those_of_this_machine(kept, small):
    """One test for all processors: converting the models takes longer than running them."""
    lowest = {}
    for recipe in ("fp32", "int8"):
        path = build("minilm", recipe)
        batch = token_ids.batch(Model.open(path).manifest.tokenizer, 16, 4, seed=0)
        with Embedder(path, weight_cache="memory", num_threads=1) as model:
            here = np.stack([model.encode_tokens(row) for row in batch])
        for cpu in emulated.CPUS:
            transport = emulated.Emulator(cpu, Settings())
            transport.prepare()
            try:
                there = vectors(
                    transport.launch(1), path, "edge_embed_bench.worker.own_engine:EdgeEmbed", batch
                )
            finally:
                transport.clean_up()
            lowest[recipe, cpu] = float(np.min(np.sum(here * there, axis=1)))
    assert len(lowest) == 2 * len(emulated.CPUS)
    assert all(value >= (0.99999 if recipe == "fp32" else 0.999) for (recipe, _), value in lowest.items()), (
        lowest
    )


@real
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


@real
@pytest.mark.parametrize(("cpu", "atomics"), [("cortex-a53", False), ("cortex-a76", True)])
def test_the_processor_and_its_description_agree(kept, cpu, atomics, tmp_path):
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
    assert done.stdout.startswith(str(atomics))
    assert (" atomics " in done.stdout) is atomics


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


def test_missing_tools_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    target = open_target("emulated:aarch64", Settings(prepare=True))
    with pytest.raises(TargetError, match="apt-get install qemu-user-static mmdebstrap"):
        target.prepare()


def test_nothing_is_downloaded_unasked(tmp_path, monkeypatch):
    for name in ("qemu-aarch64-static", "mmdebstrap"):
        stub(tmp_path / "bin", name, f"touch {tmp_path}/ran")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(TargetError, match=r"(?s)not here yet.*--prepare-target.* MB to fetch"):
        open_target("emulated:aarch64", Settings()).prepare()
    assert not (tmp_path / "ran").exists()


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
def test_a_build_that_fails_leaves_nothing(tmp_path, monkeypatch, script, timeout, problem):
    stub(tmp_path / "bin", "qemu-aarch64-static", "exit 0")
    stub(tmp_path / "bin", "mmdebstrap", script)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(TargetError, match=problem):
        open_target("emulated:aarch64", Settings(prepare=True, timeout=timeout)).prepare()
    assert list(sysroot.directory().parent.iterdir()) == []
