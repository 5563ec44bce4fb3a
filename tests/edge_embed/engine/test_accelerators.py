"""GPU and NPU: what is asked for, what really runs, and who proves it. The GPU is Chromium's software Vulkan.

A GPU delegate lives in a process with its driver's variables set ahead of its start, so these tests ask
child processes.
"""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed.engine import accelerators
from edge_embed.engine.accelerators import Acceleration, _acceleration, _refuse_blocks
from edge_embed.engine.litert.gpu_graph import read_graph
from edge_embed.engine.litert.log import absence
from edge_embed.errors import AcceleratorError, InputError, ModelFileError, SelfCheckError
from edge_embed.model_file.file import ModelFile
from edge_embed.proof.self_check import FLOAT16_COSINE, accelerator_bound, check_every_bucket

DRIVER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")

REPORT = """
import dataclasses, json, sys, warnings
import numpy as np
from edge_embed import Embedder
from edge_embed.engine import accelerators
from edge_embed.errors import EdgeEmbedError
path, accelerator, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
if options.pop("real", False):
    accelerators._refuse_software = lambda name: None
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    try:
        options |= {"weight_cache": "memory", "num_threads": 1}
        with Embedder(path, accelerator=accelerator, **options) as model:
            probe, buckets = model.manifest.self_check.tokens, model.manifest.buckets
            vectors = [model._engine.run(bucket, probe).tolist() for bucket in buckets]
            report = {**dataclasses.asdict(model.acceleration), "where": model.device, "vectors": vectors}
    except EdgeEmbedError as error:
        report = {"error": type(error).__name__, "text": str(error)}
print(json.dumps(report | {"warnings": [str(w.message) for w in caught]}))
"""


def ask(path, accelerator, *, driver=True, cwd=None, **options):
    """Loads a file in a child process and returns what it reports, standard error included."""
    environment = {k: v for k, v in os.environ.items() if k not in ("VK_DRIVER_FILES", "LD_LIBRARY_PATH")}
    environment["VK_DRIVER_FILES"] = "/nonexistent.json"
    if driver:
        environment |= {"VK_DRIVER_FILES": str(DRIVER), "LD_LIBRARY_PATH": str(DRIVER.parent)}
        environment["XDG_RUNTIME_DIR"] = "/tmp"
    done = subprocess.run(
        [sys.executable, "-c", REPORT, str(path), accelerator, json.dumps(options)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1, f"LiteRT spoke: {done.stdout}"
    return json.loads(lines[0]) | {"stderr": done.stderr}


def cosines(report, path):
    expected = ModelFile.open(path).manifest.self_check.vector
    return [
        float(np.dot(v, expected) / np.linalg.norm(v) / np.linalg.norm(expected)) for v in report["vectors"]
    ]


@pytest.mark.device("gpu")
def test_the_whole_graph_runs_on_the_gpu(tiny_model):
    report = ask(tiny_model, "gpu")
    assert report["where"] == report["ran_on"] == "gpu"
    assert report["software"]
    assert report["complete"]
    assert report["outside"] == []
    assert report["float16"]  # the manifest says that it is safe
    assert report["warnings"] == []
    assert report["stderr"] == ""
    assert min(cosines(report, tiny_model)) > 0.9999


@pytest.mark.device("gpu")
def test_float32_is_enforced_for_a_file_that_is_not_safe(build_model, tiny_graph, tmp_path):
    import hashlib

    from edge_embed.model_file.manifest import Graph

    graph = Graph(len(tiny_graph), hashlib.sha256(tiny_graph).hexdigest(), fp16_safe=False)
    path = build_model(tmp_path / "unsafe.tflite", graph=graph)
    assert ask(path, "gpu")["float16"] is False


@pytest.mark.device("gpu")
def test_a_wrong_answer_of_the_gpu_is_refused(tiny_model, build_model, tmp_path):
    from dataclasses import replace

    from edge_embed.model_file.manifest import encode_vector

    check = ModelFile.open(tiny_model).manifest.self_check
    path = build_model(
        tmp_path / "wrong.tflite", self_check=replace(check, embedding=encode_vector(-check.vector))
    )
    report = ask(path, "gpu")
    assert report["error"] == "SelfCheckError"
    assert "the GPU" in report["text"]
    assert "bucket 8" in report["text"]
    assert "vectors" in ask(path, "gpu", self_check=False)


@pytest.mark.device("gpu")
def test_auto_takes_a_real_gpu_and_no_program(tiny_model):
    chosen = ask(tiny_model, "auto", real=True)
    assert chosen["ran_on"] == "gpu"
    assert chosen["asked"] == "auto"
    assert list(chosen["passed_over"]) == ["npu"]
    software = ask(tiny_model, "auto")
    assert software["ran_on"] == "cpu"
    assert "emulated on the CPU" in software["passed_over"]["gpu"]
    assert software["warnings"] == []


def test_auto_ends_on_the_cpu(tiny_model):
    report = ask(tiny_model, "auto", driver=False)
    assert report["ran_on"] == "cpu"
    assert list(report["passed_over"]) == ["npu", "gpu"]
    assert report["stderr"] == ""


@pytest.mark.parametrize(("accelerator", "advice"), [("gpu", "driver"), ("npu", "vendor")])
def test_an_absent_accelerator_is_an_error(tiny_model, accelerator, advice):
    report = ask(tiny_model, accelerator, driver=False)
    assert report["error"] == "AcceleratorError"
    for part in ("got:", "expected:", "to fix it:", advice):
        assert part in report["text"]
    assert report["stderr"] == ""


def test_the_cpu_is_the_default(tiny_model):
    with Embedder(tiny_model, weight_cache="memory") as model:
        assert model.device == "cpu"
        assert model.acceleration == Acceleration("cpu", "cpu")
        assert pickle.loads(pickle.dumps(model))._accelerator == "cpu"


def test_nothing_of_accelerators_is_imported_for_the_cpu(tiny_model):
    code = (
        "import sys; from edge_embed import Embedder\n"
        f"Embedder({str(tiny_model)!r}, weight_cache='memory').close()\n"
        "unwanted = {'edge_embed.engine.accelerators', 'edge_embed.engine.litert.gpu_graph'}\n"
        "assert not unwanted & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("name", ["GPU", "", None, 1, "tpu", ["gpu"]])
def test_names_that_are_none(tiny_model, name):
    with pytest.raises(InputError, match="accelerator"):
        Embedder(tiny_model, accelerator=name)


def test_blocks_are_refused_ahead_of_native_code(tiny_manifest):
    from dataclasses import replace

    from edge_embed.model_file.manifest import RecipeRecord

    recipe = RecipeRecord("x", "e8_a8_f4b32_p8", {"feed_forward": {"bits": 4, "block": 32}})
    with pytest.raises(AcceleratorError, match="per block"):
        _refuse_blocks(replace(tiny_manifest, recipe=recipe), "gpu")
    _refuse_blocks(tiny_manifest, "gpu")


LOG = [
    "I0000 00:00:1 7 environment.cc:532] Selected adapter: Radeon 780M, arch=rdna, vendor=amd, "
    "backend=Vulkan, adapterType=Integrated GPU",
    "ERROR: Following operations are not supported by GPU delegate:",
    "RESHAPE: Tensor dimensions must be less than 5. encoder/0",
    "RESHAPE: Tensor dimensions must be less than 5. encoder/1",
    "41 operations will run on the GPU, and the remaining 2 operations will run on the CPU.",
]


def test_the_log_says_what_runs_on_the_cpu(monkeypatch):
    monkeypatch.setattr(accelerators, "_adapter", None)
    found = _acceleration(LOG, "gpu", False, True)
    assert found == Acceleration(
        "gpu",
        "gpu",
        False,
        ["RESHAPE: Tensor dimensions must be less than 5"],
        "Radeon 780M, Vulkan",
        False,
        True,
    )
    assert str(found) == (
        "GPU (Radeon 780M, Vulkan) in part; on the CPU: RESHAPE: Tensor dimensions must be less than 5"
    )
    # The adapter is named once per process.
    assert _acceleration([], "gpu", True, False).device == "Radeon 780M, Vulkan"


@pytest.mark.parametrize(
    ("lines", "accelerator"),
    [
        (
            [
                *LOG[:-1],
                "0 operations will run on the GPU, and the remaining 43 operations will run on the CPU.",
            ],
            "gpu",
        ),
        ([], "gpu"),
        (["WARNING: [npu_registry.cc:34] NPU accelerator could not be loaded and registered: x."], "npu"),
        (["WARNING: [compiled_model.cc:1393] Failed to apply compiler plugins: none"], "npu"),
    ],
)
def test_a_silent_fall_back_is_an_error(lines, accelerator, monkeypatch):
    monkeypatch.setattr(accelerators, "_adapter", None)
    with pytest.raises(AcceleratorError, match="cannot run any part"):
        _acceleration(lines, accelerator, False, False)


def test_a_partial_graph_is_a_warning(tiny_model, monkeypatch):
    part = Acceleration("gpu", "gpu", False, ["PAD: why"])

    class Fake:
        acceleration = part

        def close(self):
            pass

    monkeypatch.setattr(accelerators, "_open", lambda *a, **k: Fake())
    with pytest.warns(accelerators.AcceleratorWarning, match="only in part; on the CPU: PAD: why"):
        accelerators.open_accelerated(ModelFile.open(tiny_model), "gpu", 1, "memory", True)


def test_a_model_file_that_is_overwritten_is_an_error(tiny_model, tmp_path, monkeypatch):
    path = tmp_path / "model.tflite"
    path.write_bytes(tiny_model.read_bytes())
    answer = np.ones(8, np.float32)
    engine_class = accelerators.AcceleratedEngine

    class Fake:
        closed = False

        def has_run(self, length):
            return True

        def run(self, length, ids):
            return answer

    monkeypatch.setattr(engine_class, "_compile", lambda *_: Fake())
    engine = engine_class(ModelFile.open(path), "gpu", 1)
    assert engine.run(8, [1]) is answer
    path.write_bytes(b"another")
    for length in (8, 16):
        with pytest.raises(ModelFileError, match="changed while it was in use"):
            engine.run(length, [1])


def test_absence_is_reported_by_its_cause():
    lines = ["Warning: Couldn't load Vulkan: no file", "ERROR: [delegate.cc:359] Failed: No adapters found"]
    assert absence(lines, "gpu") == "Couldn't load Vulkan: no file"
    assert absence(lines, "npu") is None


def test_every_bucket_must_agree(tiny_manifest):
    class Runner:
        def run(self, length, ids):
            vector = tiny_manifest.self_check.vector
            return -vector if length == 32 else vector

    with pytest.raises(SelfCheckError, match="bucket 32"):
        check_every_bucket(Runner(), tiny_manifest, "x", False)


def test_the_bound_of_float16(tiny_manifest):
    assert accelerator_bound(tiny_manifest, False) == tiny_manifest.self_check.min_cosine == 0.9999
    assert accelerator_bound(tiny_manifest, True) == FLOAT16_COSINE


def test_a_float_graph_is_read_as_it_is(tiny_model, tiny_graph):
    assert read_graph(tiny_model, len(tiny_graph)) == tiny_graph


def test_a_damaged_graph_is_an_error(tiny_graph, tmp_path):
    for cut in (4, 40, 400):
        path = tmp_path / f"{cut}"
        path.write_bytes(tiny_graph[:4] + b"TFL3" + b"\xff" * (cut + 8))
        with pytest.raises(ModelFileError):
            read_graph(path, 8 + cut)


def test_the_command_line(tiny_model):
    command = [sys.executable, "-m", "edge_embed"]
    environment = {**os.environ, "VK_DRIVER_FILES": "/nonexistent.json", "LD_LIBRARY_PATH": ""}
    words = [*command, "embed", str(tiny_model), "the red planet", "--accelerator"]
    done = subprocess.run([*words, "npu"], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert "the NPU" in done.stderr
    done = subprocess.run([*words, "auto"], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0
    assert len(json.loads(done.stdout)["embedding"]) == 8
    done = subprocess.run(
        [*command, "inspect", str(tiny_model), "--accelerator", "auto", "--json", "--no-delegate"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert json.loads(done.stdout)["acceleration"]["ran_on"] == "cpu"
