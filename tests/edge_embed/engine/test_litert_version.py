"""The CPU engine where LiteRT is of another version, missing, or not LiteRT."""

import gc
import os
import shutil
import signal

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed.engine import cpu
from edge_embed.engine.cpu import CpuEngine
from edge_embed.engine.litert import c_api, installed
from edge_embed.errors import LiteRtVersionWarning, ModelFileError, RuntimeFailure, WeightCacheWarning
from edge_embed.model_file.file import ModelFile

SHORT = [2, 5, 3]


@pytest.fixture
def another_process(monkeypatch):
    monkeypatch.setattr(c_api, "_library", None)
    monkeypatch.setattr(c_api, "_environment", None)


def test_versions_are_those_of_litert_alone(tmp_path):
    for name in ("ai_edge_litert-2.3.1", "ai_edge_litert_sdk_qualcomm-0.2.0", "ai_edge_litert_nightly-2.4.0"):
        (tmp_path / f"{name}.dist-info").mkdir()
    assert installed.versions(tmp_path / "ai_edge_litert") == ["2.3.1"]


@pytest.fixture
def another_version(monkeypatch):
    """The installed LiteRT pretends to be of a version whose C interface is not known."""
    monkeypatch.setattr(installed, "versions", lambda package: ["2.4.1"])
    monkeypatch.setattr(cpu, "versions", lambda package: ["2.4.1"])
    monkeypatch.setattr(cpu, "_versions_warned_of", set())

    def refuse(*arguments):
        raise AssertionError("the C interface was used")

    monkeypatch.setattr(cpu, "Graph", refuse)


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_another_version_gives_the_same_vectors_and_one_warning(tiny_model, tmp_path, cache, request):
    texts = ["red", "the red planet", "water stone " * 6] * 8
    with Embedder(tiny_model, num_threads=2, weight_cache="memory") as model:
        expected = model.encode(texts)
    request.getfixturevalue("another_version")
    cache = tmp_path / "cache" if cache == "disk" else cache
    with pytest.warns(LiteRtVersionWarning, match=r"2\.4\.1 is used through its public Python") as caught:
        model = Embedder(tiny_model, num_threads=2, weight_cache=cache)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "ai-edge-litert==2.3.*" in str(caught[0].message)
    assert np.array_equal(model.encode(texts), expected)
    model.close()
    with pytest.raises(RuntimeFailure, match="closed"):
        model.encode("red")
    with Embedder(tiny_model, weight_cache=cache) as model:  # and says so once
        assert np.array_equal(model.encode(texts), expected)


def test_another_version_notices_an_overwritten_file_as_well(tiny_model, tmp_path, another_version):
    path = tmp_path / "model.tflite"
    shutil.copy(tiny_model, path)
    with pytest.warns(LiteRtVersionWarning):
        model = Embedder(path, weight_cache="memory")
    path.write_bytes(tiny_model.read_bytes())
    with pytest.raises(ModelFileError, match="changed while it was in use"):
        model.encode_tokens(SHORT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_another_version_survives_a_fork(tiny_model, another_version):
    with pytest.warns(LiteRtVersionWarning):
        model = Embedder(tiny_model, num_threads=2, weight_cache="memory")
    expected = model.encode_tokens(SHORT)
    child = os.fork()
    if not child:
        signal.alarm(30)  # ends a child that waits for threads of its parent
        gc.collect()
        same = np.array_equal(model.encode_tokens(SHORT), expected)
        del model
        gc.collect()
        os._exit(0 if same else 3)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(model.encode_tokens(SHORT), expected)
    model.close()


def test_another_version_packs_changed_weights_again(tiny_model, tmp_path, another_version):
    file = ModelFile.open(tiny_model)
    with pytest.warns(LiteRtVersionWarning):
        engine = CpuEngine(file.path, file.manifest, 1, str(tmp_path / "packed"))
    expected = engine.run(8, SHORT)
    os.utime(tmp_path / "packed", ns=(1, 1))
    with pytest.warns(WeightCacheWarning):
        assert np.array_equal(engine.run(8, SHORT), expected)
    engine.close()


def test_a_missing_litert(tiny_model, monkeypatch, another_process):
    monkeypatch.setattr(installed.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeFailure, match="cannot be loaded") as caught:
        Embedder(tiny_model, weight_cache="memory")
    assert "pip install" in caught.value.fix


def test_a_library_that_is_not_litert(tiny_model, monkeypatch, another_process, tmp_path):
    package = tmp_path / "ai_edge_litert"
    package.mkdir()
    (tmp_path / "ai_edge_litert-2.3.0.dist-info").mkdir()
    (package / c_api._LIBRARY).write_bytes(b"no library")
    monkeypatch.setattr(installed, "package_directory", lambda: package)
    monkeypatch.setattr(c_api, "package_directory", lambda: package)
    with pytest.raises(RuntimeFailure, match="cannot be loaded"):
        Embedder(tiny_model, weight_cache="memory")


@pytest.mark.parametrize("atomics", [True, False])
def test_accelerators_are_refused_on_the_first_arm_cores(tiny_model, monkeypatch, atomics):
    monkeypatch.setattr(installed.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(installed, "has_arm_atomics", lambda: atomics)
    if atomics:
        installed.require_arm_atomics()
        return
    with pytest.raises(RuntimeFailure, match="cannot load LiteRT's accelerators") as caught:
        installed.require_arm_atomics()
    assert "Raspberry Pi 3 and 4" in caught.value.got
    assert "accelerator='cpu'" in caught.value.fix
    with pytest.raises(RuntimeFailure, match="cannot load LiteRT's accelerators"):
        Embedder(tiny_model, accelerator="gpu")
    with Embedder(tiny_model, accelerator="auto", weight_cache="memory") as model:
        assert model.device == "cpu"
