"""The target `browser`: for real where Chromium, Node and npm's packages can be had, and its faults."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from edge_embed.engine.cache_directory import default_directory
from edge_embed.errors import InputError
from edge_embed.model_file.file import ModelFile
from edge_embed_bench.errors import TargetError
from edge_embed_bench.records.model import Model
from edge_embed_bench.records.record import FAILED, OK, Cell, Run
from edge_embed_bench.targets.base import Plan, Settings, Subject, open_target
from edge_embed_bench.targets.browser import target as browser
from edge_embed_bench.targets.browser import tools as browser_tools

CACHE = default_directory()
"""The user's own cache, where npm's packages are: no test fetches anything."""

RUN = Run("edge_embed bench", "2026-01-01T00:00:00+00:00", 1, 3, 0, [])


@pytest.fixture
def modules(monkeypatch):
    name = browser_tools.directory().name
    monkeypatch.setattr(browser_tools, "directory", lambda: CACHE / "targets" / name)


def profiles(directory):
    return sorted(Path(directory).glob("edge-embed-browser-*"))


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Every temporary directory of the target's goes here."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def measure(path, accelerator="cpu", threads=1, batch=1, timeout=120.0):
    target = open_target("browser", Settings())
    try:
        target.prepare()
        cell = Cell("browser", accelerator, 16, threads, batch)
        plan = Plan(RUN, loads=1, timeout=timeout)
        return next(iter(target.measure([Subject(Model.open(path))], cell, plan)))
    finally:
        target.close()


@pytest.mark.device("browser")
@pytest.mark.parametrize(("accelerator", "threads"), [("cpu", 1), ("cpu", 2), ("gpu", 1)])
def test_a_cell(modules, scratch, tiny_model, accelerator, threads):
    record = measure(tiny_model, accelerator, threads, batch=2)
    assert record.status == OK, record.error
    assert record.agreement.cosine_min > 0.999
    assert len(record.latency.samples_s) == 3
    assert record.memory.rss_bytes > 10e6
    settings = record.engine.settings
    assert settings["ran on"].startswith("WebGPU" if accelerator == "gpu" else "WebAssembly")
    assert settings["cross-origin isolated"] == "yes"
    assert settings["wasm threads"] == str(threads)
    assert settings["agreement with"] == "this machine's CPU"
    assert record.engine.versions["@litertjs/core"] == "2.5.3"
    assert {"text_latency", "text_memory", "delegate"} <= set(record.not_measured)
    assert profiles(scratch) == []


@pytest.mark.device("browser")
def test_the_probes(modules, scratch, tiny_model):
    target = open_target("browser", Settings())
    file = ModelFile.open(tiny_model)
    try:
        target.prepare()
        done = []
        answers = target.rerun(file, 1, done.append)
    finally:
        target.close()
    assert [answer.tokens for answer in answers] == [probe.tokens for probe in file.probes()]
    assert answers[0].vector == pytest.approx(file.probes()[0].vector.tolist(), abs=1e-4)
    assert done == [1] * len(answers)


@pytest.mark.device("browser")
@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("window.bench.embed = () => new Promise(() => {});", "no answer to embed within"),
        (
            "window.bench.embed = () => { throw new RangeError('Array buffer allocation failed'); };",
            "allocation",
        ),
        ("window.bench.embed = async () => ({samples_s: [1], vectors: [Array(8).fill(1)]});", "cosine"),
    ],
    ids=["hung", "memory", "wrong"],
)
def test_faults_are_failed_records(modules, scratch, tiny_model, tmp_path, monkeypatch, change, error):
    page = tmp_path / "page"
    shutil.copytree(browser.PAGE, page)
    script = page / "page.mjs"
    script.write_text(script.read_text("utf-8") + change, "utf-8")
    monkeypatch.setattr(browser, "PAGE", page)
    record = measure(tiny_model, timeout=30.0)
    assert record.status == FAILED
    assert error in record.error
    assert profiles(scratch) == []


@pytest.mark.device("browser")
def test_a_browser_that_dies(modules, scratch, tiny_model, tmp_path, monkeypatch):
    page = tmp_path / "page"
    shutil.copytree(browser.PAGE, page)
    script = page / "worker.mjs"
    text = script.read_text("utf-8")
    crash = "embed: (request) => (page.goto('chrome://crash').catch(() => {}), call('embed', request))"
    assert "embed: (request) => call('embed', request)" in text
    script.write_text(text.replace("embed: (request) => call('embed', request)", crash), "utf-8")
    monkeypatch.setattr(browser, "PAGE", page)
    record = measure(tiny_model, timeout=60.0)
    assert record.status == FAILED
    assert "crashed" in record.error or "navigation" in record.error
    deadline = time.monotonic() + 10
    while _chromiums(scratch) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _chromiums(scratch) == []


def _chromiums(directory):
    """Returns the processes that still name a profile under a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(directory).encode() in path.read_bytes() and b"chrom" in path.read_bytes():
                found.append(path.parent.name)
        except OSError:  # gone meanwhile
            continue
    return found


def test_nothing_is_downloaded_without_consent(monkeypatch, tmp_path):
    programs(monkeypatch, tmp_path, chromium="exit 0", node="echo v20.1.0", npm="exit 7")
    with pytest.raises(TargetError, match="--prepare-target"):
        browser_tools.find(prepare=False, timeout=5)
    with pytest.raises(TargetError, match="exit code 7"):
        browser_tools.find(prepare=True, timeout=5)
    assert not browser_tools.directory().exists()
    assert list(browser_tools.directory().parent.iterdir()) == []


def test_packages_are_kept(monkeypatch, tmp_path):
    programs(
        monkeypatch,
        tmp_path,
        chromium="exit 0",
        node="echo v20.1.0",
        npm='echo "$@" > "$3/words"; mkdir "$3/node_modules"',
    )
    tools = browser_tools.find(prepare=True, timeout=5)
    words = (tools.modules / "words").read_text("utf-8")
    assert "--ignore-scripts" in words
    assert all(package in words for package in browser_tools.PACKAGES)
    assert browser_tools.find(prepare=False, timeout=5) == tools


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ({"node": "echo v20.1.0"}, "no Chromium"),
        ({"chromium": "exit 0"}, "no Node.js"),
        ({"chromium": "exit 0", "node": "echo v16.0.0"}, "too old"),
        ({"chromium": "exit 0", "node": "exit 3"}, "exit code 3"),
        ({"chromium": "exit 0", "node": "echo v20.1.0"}, "no npm"),
    ],
)
def test_missing_tools(monkeypatch, tmp_path, there, message):
    programs(monkeypatch, tmp_path, **there)
    with pytest.raises(TargetError, match=message):
        browser_tools.find(prepare=True, timeout=5)


def programs(monkeypatch, tmp_path, **scripts):
    """Makes the only programs on PATH."""
    place = tmp_path / "bin"
    place.mkdir()
    for name, script in scripts.items():
        (place / name).write_text(f"#!/bin/sh\n{script}\n", "ascii")
        (place / name).chmod(0o755)
    for tool in ("mkdir",):
        (place / tool).symlink_to(shutil.which(tool))
    monkeypatch.setenv("PATH", str(place))
    monkeypatch.delenv("CHROME_PATH", raising=False)


def test_a_named_browser_that_is_not_there(monkeypatch, tmp_path):
    programs(monkeypatch, tmp_path, chromium="exit 0", node="echo v20.1.0")
    monkeypatch.setenv("CHROME_PATH", "/nonexistent/chrome")
    with pytest.raises(TargetError, match="CHROME_PATH"):
        browser_tools.find(prepare=False, timeout=5)


def test_names():
    with pytest.raises(InputError, match="no parameter"):
        open_target("browser:firefox", Settings())


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
@pytest.mark.parametrize("name", ["worker.mjs", "page.mjs"])
def test_the_scripts_parse(name):
    subprocess.run(["node", "--check", str(browser.PAGE / name)], check=True, timeout=60)
