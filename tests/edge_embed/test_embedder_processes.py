"""The embedder over its life: closing, copies, threads, broken models and backends, other processes."""

import copy
import hashlib
import os
import pickle
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

from edge_embed import EdgeEmbedError, Embedder
from edge_embed.engine.base import Engine
from edge_embed.engine.cpu import CpuEngine
from edge_embed.errors import (
    InputError,
    ModelFileError,
    RuntimeFailure,
    TokenizerError,
)
from edge_embed.model_file.file import ModelFile, write_model_file

LONG = " ".join(["seven small birds fly home"] * 20)


# Life cycle


def test_close(path):
    model = Embedder(path, weight_cache="memory")
    model.close()
    model.close()
    with pytest.raises(RuntimeFailure, match="closed"):
        model.encode("red")


def test_pickle_and_copy(model, path, monkeypatch, tmp_path):
    with Embedder(path, truncate_dim=4, overflow="mean", num_threads=1, weight_cache="memory") as small:
        monkeypatch.chdir(tmp_path)
        for same in (pickle.loads(pickle.dumps(small)), copy.deepcopy(small)):
            assert repr(same) == repr(small)
            assert np.array_equal(same.encode(LONG), small.encode(LONG))
            same.close()


def test_a_relative_path_survives_a_change_of_directory(path, monkeypatch, tmp_path):
    monkeypatch.chdir(path.parent)
    model = Embedder(path.name, weight_cache="memory")
    monkeypatch.chdir(tmp_path)
    assert model.encode("red").shape == (8,)


def test_threads_get_the_answers_of_one_thread(model):
    texts = [f"{word} {n}" for n, word in enumerate(["red", "water", "stone", LONG[:20]] * 8)]
    expected = model.encode(texts)
    answers = {}

    def work(index):
        answers[index] = [model.encode(text) for text in texts]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    assert all(np.array_equal(rows, expected) for rows in answers.values())


def test_instances_made_in_threads_at_once(path):
    rows = []

    def work():
        with Embedder(path) as model:
            rows.append(model.encode("red planet"))

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows) == 5
    assert all(np.array_equal(row, rows[0]) for row in rows)


# Broken models and backends


def test_a_missing_tokenizer(tmp_path, build_model, tiny_manifest):
    record = replace(tiny_manifest.tokenizer, file="tokenizer.model")
    path = build_model(tmp_path / "x.tflite", tokenizer=record, self_check=tiny_manifest.self_check)
    with pytest.raises(TokenizerError, match="tokenizer is missing"):
        Embedder(path)


def test_a_graph_without_a_signature_of_the_manifest(tmp_path, build_model, tiny_manifest):
    path = build_model(tmp_path / "x.tflite", buckets=[8, 16, 32, 64], self_check=tiny_manifest.self_check)
    with pytest.raises(ModelFileError, match="signature embed_64"):
        Embedder(path)


def test_a_graph_of_another_dimension(tmp_path, build_model, tiny_manifest):
    check = replace(tiny_manifest.self_check, embedding="AAAAAAAAgD8=")
    path = build_model(tmp_path / "x.tflite", dimension=2, matryoshka_dimensions=[2], self_check=check)
    with pytest.raises(ModelFileError, match="shape that the manifest"):
        Embedder(path)


def test_a_damaged_flatbuffer(tmp_path, build_model, tiny_manifest, tiny_graph, capfd):
    from edge_embed.model_file.file import ModelFile, write_model_file
    from edge_embed.names import MANIFEST_NAME

    graph = tiny_graph[:8] + b"\xff" * 4000
    record = replace(tiny_manifest, graph=replace(tiny_manifest.graph, bytes=len(graph)))
    path = tmp_path / "x.tflite"
    members = {MANIFEST_NAME: record.to_json().encode(), "tokenizer.json": b"{}"}
    write_model_file(path, graph, members)
    file = ModelFile.open(path)
    with pytest.raises(ModelFileError, match="damaged"):
        CpuEngine(file.path, file.manifest, 1, ":memory")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("bad", [np.full(8, np.nan), np.full(8, np.inf), np.zeros(8)])
def test_a_vector_that_cannot_be_used_is_never_returned(path, monkeypatch, bad):
    with Embedder(path, weight_cache="memory", self_check=False) as model:
        monkeypatch.setattr(CpuEngine, "_invoke", lambda *_: bad.astype(np.float32))
        with pytest.raises(RuntimeFailure, match="cannot be used"):
            model.encode("red")


def test_opposite_windows_have_no_mean(words, monkeypatch):
    signs = iter([1.0, -1.0] * 50)
    monkeypatch.setattr(Engine, "run", lambda *_: np.full(8, next(signs), dtype=np.float32))
    with pytest.raises(RuntimeFailure, match="a vector of zeros cannot be normalized"):
        words.encode("red " * 60, overflow="mean")


# Processes

ISOLATED = """
import os, sys, warnings
warnings.simplefilter("error")
from edge_embed import Embedder
"""


def run_python(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", ISOLATED + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_nothing_is_printed_from_load_to_exit(path):
    code = (
        "m = Embedder(sys.argv[1]); m.encode(['red', 'red ' * 12, 'red ' * 20], overflow='mean'); "
        "print(m.encode_query('x').shape)"
    )
    assert run_python(code, path) == "(8,)\n"
    assert run_python(code + "; m.close()", path) == "(8,)\n"


REFUSED = """
from edge_embed import EdgeEmbedError
for file in sys.argv[1:]:
    try:
        m = Embedder(file, weight_cache='memory')
        print(m.encode('red').shape)
    except EdgeEmbedError as error:
        print(type(error).__name__)
"""


def test_nothing_is_printed_when_a_graph_is_refused(path, tmp_path):
    """Neither alone, where nothing ever ran, nor around a graph that runs."""
    file = ModelFile.open(path)
    manifest = file.manifest
    graph = path.read_bytes()[: manifest.graph.bytes]
    # Another schema version: garbage would do, were it not that LiteRT may crash on it.
    newer, root = bytearray(graph), int.from_bytes(graph[:4], "little")
    vtable = root - int.from_bytes(graph[root : root + 4], "little", signed=True)
    newer[root + int.from_bytes(graph[vtable + 4 : vtable + 6], "little")] = 9
    longer = replace(manifest, buckets=[*manifest.buckets, 64])
    bad = [tmp_path / "newer.tflite", tmp_path / "signature.tflite"]
    for target, content, described in zip(bad, (bytes(newer), graph), (manifest, longer), strict=True):
        digest = replace(manifest.graph, sha256=hashlib.sha256(content).hexdigest())
        members = {name: file.read(name) for name in file.names}
        members["edge_embed.json"] = replace(described, graph=digest).to_json().encode()
        write_model_file(target, content, members)
    assert run_python(REFUSED, bad[0]) == "RuntimeFailure\n"
    assert run_python(REFUSED, bad[1]) == "ModelFileError\n"
    assert run_python(REFUSED, *bad, path, bad[0]) == "RuntimeFailure\nModelFileError\n(8,)\nRuntimeFailure\n"


def test_importing_loads_only_numpy():
    code = "print(sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = run_python(code)
    for name in (
        "ai_edge_litert",
        "tokenizers",
        "sentencepiece",
        "tqdm",
        "torch",
        "edge_embed_convert",
        "ctypes_",
    ):
        assert repr(name) not in loaded
    assert "'numpy'" in loaded


def test_only_the_tokenizer_that_a_file_needs_is_imported(tiny_model, tiny_sentencepiece_model):
    code = (
        "m = Embedder(sys.argv[1]); m.encode('red'); "
        "print(*({'tokenizers', 'sentencepiece'} & set(sys.modules)))"
    )
    assert run_python(code, tiny_model) == "tokenizers\n"
    assert run_python(code, tiny_sentencepiece_model) == "sentencepiece\n"


FORK = """
import threading
m = Embedder(sys.argv[1])
before = m.encode('the red planet').tobytes()
stop = threading.Event()
busy = threading.Thread(target=lambda: [m.encode('water') for _ in iter(stop.is_set, True)])
busy.start()
for leave in (os._exit, sys.exit):
    for _ in range(4):
        child = os.fork()
        if not child:
            same = m.encode('the red planet').tobytes() == before
            other = Embedder(sys.argv[1]).encode('the red planet').tobytes() == before
            leave(0 if same and other else 3)
        assert os.waitpid(child, 0)[1] == 0
    unused = os.fork()
    if not unused:
        del m
        leave(0)
    assert os.waitpid(unused, 0)[1] == 0
stop.set()
busy.join()
assert m.encode('the red planet').tobytes() == before
print('ok')
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_while_another_thread_runs(path):
    assert run_python("warnings.simplefilter('ignore', DeprecationWarning)\n" + FORK, path) == "ok\n"


IDLE_FORK = """
import gc
from edge_embed.engine.litert import c_api
m = Embedder(sys.argv[1])
before = m.encode('the red planet').tobytes()
parent, close = os.getpid(), c_api.Graph.close
c_api.Graph.close = lambda self: close(self) if os.getpid() == parent else os._exit(3)
child = os.fork()
if not child:
    gc.collect()
    os._exit(0 if m.encode('the red planet').tobytes() == before else 4)
print(os.waitpid(child, 0)[1], m.encode('the red planet').tobytes() == before)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_destroys_nothing_of_its_parent(path):
    code = "warnings.simplefilter('ignore', DeprecationWarning)\n" + IDLE_FORK
    assert run_python(code, path) == "0 True\n"


def test_multiprocessing_with_spawn(path):
    code = (
        "import multiprocessing, operator\n"
        "m = Embedder(sys.argv[1])\n"
        "with multiprocessing.get_context('spawn').Pool(2) as pool:\n"
        "    rows = pool.map(m.encode, ['red', 'water', 'red'])\n"
        "print((rows[0] == rows[2]).all(), (rows[0] == m.encode('red')).all())\n"
    )
    assert run_python(code, path) == "True True\n"


def test_every_error_is_ours(path):
    assert issubclass(InputError, EdgeEmbedError)
    with pytest.raises(EdgeEmbedError):
        Embedder(path.with_name("missing.tflite"))
