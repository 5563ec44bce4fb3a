"""The engine of the CPU: buckets compiled when they are needed, over weights that nobody takes away."""

import ctypes
import gc
import mmap
import os
import shutil
import subprocess
import threading

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed.engine import cpu, packed_weights
from edge_embed.engine.cpu import CpuEngine
from edge_embed.engine.litert import c_api
from edge_embed.errors import ModelFileError, RuntimeFailure, WeightCacheWarning
from edge_embed.model_file.file import ModelFile

SHORT, MIDDLE, LONG = [2, 5, 3], [2, *range(4, 14), 3], [2, *range(4, 24), 3]


@pytest.fixture
def compiled(monkeypatch):
    """Lists the graphs that are compiled: tokens, threads, and where they find their weights."""
    calls = []
    graph = cpu.Graph

    def build(content, length, dimension, num_threads, weights):
        calls.append((length, num_threads, weights))
        return graph(content, length, dimension, num_threads, weights)

    monkeypatch.setattr(cpu, "Graph", build)
    return calls


@pytest.fixture
def engine(tiny_model, tmp_path):
    file = ModelFile.open(tiny_model)
    engine = CpuEngine(file.path, file.manifest, 2, str(tmp_path / "packed"))
    yield engine
    engine.close()


def lengths(calls):
    return [length for length, _, _ in calls]


def test_a_bucket_is_compiled_when_its_first_text_comes(tiny_model, compiled):
    with Embedder(tiny_model, num_threads=1, weight_cache="memory") as model:
        probe = len(model.manifest.self_check.tokens)
        assert lengths(compiled) == [next(n for n in model.manifest.buckets if n >= probe)]
        for tokens in (LONG, LONG, SHORT, LONG):
            model.encode_tokens(tokens)
        assert sorted(set(lengths(compiled))) == sorted(lengths(compiled))
        assert 32 in lengths(compiled)
        assert 16 not in lengths(compiled)


def test_every_bucket_gives_what_a_lone_one_gives(engine, tiny_model):
    file = ModelFile.open(tiny_model)
    for length in file.manifest.buckets:
        lone = CpuEngine(file.path, file.manifest, 1, ":memory")
        assert np.array_equal(lone.run(length, SHORT), engine.run(length, SHORT))
        lone.close()


def test_graphs_share_one_file_of_weights(engine, compiled, tmp_path):
    engine.run(8, SHORT)
    before = (tmp_path / "packed").stat()
    engine.run(32, LONG)
    engine.run(32, LONG, alone=True)
    after = (tmp_path / "packed").stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    assert before.st_size > 0


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux only")
def test_compiling_changes_no_mapping_that_is_not_its_own(engine, tmp_path):
    """A page that was written to privately, and is read-only now, keeps its content."""
    engine.run(8, SHORT)
    with open(tmp_path / "packed", "rb") as handle:
        content = mmap.mmap(handle.fileno(), mmap.PAGESIZE, access=mmap.ACCESS_COPY)
    content[:7] = b"private"
    address = ctypes.addressof(ctypes.c_char.from_buffer(content))
    protect = ctypes.CDLL(None).mprotect
    assert protect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ) == 0
    engine.run(16, SHORT)
    assert ctypes.string_at(address, 7) == b"private"


def test_weights_in_memory_are_shared_as_well(tiny_model, compiled):
    file = ModelFile.open(tiny_model)
    engine = CpuEngine(file.path, file.manifest, 1, ":memory")
    for length in (8, 16, 32):
        engine.run(length, SHORT)
    assert len({weights for *_, weights in compiled}) == 1
    engine.close()


def test_weights_that_are_removed_while_in_use(engine, tmp_path):
    expected = engine.run(8, SHORT)
    (tmp_path / "packed").unlink()
    assert np.allclose(engine.run(16, SHORT), expected, atol=1e-6)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("warm", [True, False])
def test_weights_that_are_changed_while_in_use_are_packed_again(engine, tmp_path, warm):
    lengths = (8, 16, 32)
    expected = [engine.run(length, SHORT) for length in lengths]
    together = engine.run(16, SHORT, alone=True)
    if not warm:
        engine._shared.clear()
    with open(tmp_path / "packed", "r+b") as handle:
        handle.truncate(0)
    with pytest.warns(WeightCacheWarning, match="packs its own copy"):
        again = [engine.run(length, SHORT) for length in lengths]
    assert np.array_equal(again, expected)
    assert np.array_equal(engine.run(16, SHORT, alone=True), together)  # and says so once


def test_a_model_file_that_is_replaced_stays_the_one_that_was_loaded(tiny_model, tmp_path):
    path = tmp_path / "model.tflite"
    shutil.copy(tiny_model, path)
    with Embedder(path, num_threads=1, weight_cache="memory") as model:
        (tmp_path / "new").write_bytes(b"another")
        os.replace(tmp_path / "new", path)
        assert model.encode_tokens(LONG).shape == (8,)


def overwrite(path, content):
    path.write_bytes(content)


def overwrite_a_byte_and_restore_the_time(path, content):
    status = path.stat()
    with open(path, "r+b") as handle:
        handle.seek(len(content) // 3)
        handle.write(bytes([content[len(content) // 3] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda path, content: overwrite(path, b"another"),
        overwrite,
        lambda path, content: overwrite(path, content + b"more"),
        lambda path, content: os.truncate(path, 0),
        lambda path, content: os.truncate(path, len(content) // 2),
        lambda path, content: os.utime(path, ns=(1, 1)),
        overwrite_a_byte_and_restore_the_time,
    ],
)
def test_a_model_file_that_is_overwritten_is_an_error_in_every_bucket(tiny_model, tmp_path, change):
    path = tmp_path / "model.tflite"
    shutil.copy(tiny_model, path)
    with Embedder(path, num_threads=2, weight_cache="memory") as model:
        model.encode_tokens(SHORT)
        change(path, tiny_model.read_bytes())
        for tokens in (SHORT, LONG, SHORT):
            with pytest.raises(ModelFileError, match="changed while it was in use") as caught:
                model.encode_tokens(tokens)
            assert "load the model again" in caught.value.fix
            assert "rename" in caught.value.fix


@pytest.mark.parametrize("change", ["rename", "chmod", "link", "replace"])
def test_a_model_file_that_nobody_wrote_to_goes_on(tiny_model, tmp_path, change):
    path = tmp_path / "model.tflite"
    shutil.copy(tiny_model, path)
    with Embedder(path, num_threads=1, weight_cache="memory") as model:
        expected = model.encode_tokens(SHORT)
        if change == "rename":
            path.rename(tmp_path / "other.tflite")
        elif change == "chmod":
            path.chmod(0o444)
        elif change == "link":
            os.link(path, tmp_path / "other.tflite")
        else:
            (tmp_path / "new").write_bytes(b"another")
            os.replace(tmp_path / "new", path)
        assert np.array_equal(model.encode_tokens(SHORT), expected)
        assert np.isfinite(model.encode_tokens(LONG)).all()


@pytest.mark.parametrize("change", ["replace", "unlink"])
def test_a_file_that_lost_its_name_before_the_first_text_goes_on(tiny_model, tmp_path, change):
    path = tmp_path / "model.tflite"
    shutil.copy(tiny_model, path)
    with Embedder(tiny_model, weight_cache="memory") as model:
        expected = model.encode("the red planet")
    with Embedder(path, weight_cache="memory") as model:
        if change == "unlink":
            path.unlink()
        else:
            (tmp_path / "new").write_bytes(b"another")
            os.replace(tmp_path / "new", path)
        assert np.array_equal(model.encode("the red planet"), expected)


def test_a_model_file_that_is_overwritten_during_a_run_gives_no_vector(tiny_model, tmp_path, monkeypatch):
    path = tmp_path / "model.tflite"
    shutil.copy(tiny_model, path)
    run = c_api.Graph.run

    def run_and_write(self, *arguments):
        vector = run(self, *arguments)
        os.utime(path, ns=(1, 1))
        return vector

    with Embedder(path, num_threads=1, weight_cache="memory") as model:
        monkeypatch.setattr(c_api.Graph, "run", run_and_write)
        with pytest.raises(ModelFileError, match="changed while it was in use"):
            model.encode_tokens(SHORT)


def test_a_tokenizer_that_is_overwritten_before_the_first_text_is_an_error(tiny_model, tmp_path):
    path = tmp_path / "model.tflite"
    shutil.copy(tiny_model, path)
    with Embedder(path, num_threads=1, weight_cache="memory") as model:
        content = bytearray(path.read_bytes())
        status = path.stat()
        content[content.index(b"planet")] ^= 1
        path.write_bytes(content)
        with pytest.raises(ModelFileError):
            model.encode("the red planet")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        with pytest.raises(ModelFileError):
            model.encode("the red planet")


def test_alone_on_one_thread_and_with_all_of_them(engine, compiled):
    together = engine.run(32, LONG)
    assert np.array_equal(engine.run(32, LONG, alone=True), together)
    assert [threads for _, threads, _ in compiled] == [2, 1]


def test_beyond_the_short_ones_all_threads_take_one_text(engine, compiled, monkeypatch):
    monkeypatch.setattr(cpu, "SHORT", 16)
    engine.run(16, MIDDLE, alone=True)
    engine.run(32, LONG, alone=True)
    assert [threads for _, threads, _ in compiled] == [1, 2]


def test_as_many_graphs_alone_as_there_are_threads(engine, compiled, monkeypatch):
    meeting = threading.Barrier(2)
    run = c_api.Graph.run

    def wait(self, ids, pad_id):
        meeting.wait(timeout=30)  # passes only when two run at the same time
        return run(self, ids, pad_id)

    monkeypatch.setattr(c_api.Graph, "run", wait)
    threads = [threading.Thread(target=engine.run, args=(16, MIDDLE, True)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lengths(compiled) == [16, 16]


def test_closing_waits_for_what_runs_and_refuses_what_comes(engine, monkeypatch):
    started, go = threading.Event(), threading.Event()
    answers = []
    engine.run(8, SHORT)
    graph = engine._shared[8]
    run = graph._run

    def wait():
        started.set()
        go.wait(timeout=30)
        return run()

    def ask():
        try:
            answers.append(bool(np.isfinite(engine.run(8, SHORT)).all()))
        except RuntimeFailure as error:  # closed after the run and before the last look at the file
            answers.append("is closed" in str(error))

    monkeypatch.setattr(graph, "_run", wait)
    runner = threading.Thread(target=ask)
    runner.start()
    started.wait(timeout=30)
    closer = threading.Thread(target=engine.close)
    closer.start()
    closer.join(0.2)
    assert closer.is_alive()
    go.set()
    closer.join()
    runner.join()
    assert answers == [True]
    with pytest.raises(RuntimeFailure, match="closed"):
        engine.run(8, SHORT)


def test_descriptors_are_given_back(tiny_model):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc")
    Embedder(tiny_model, weight_cache="memory").close()
    gc.collect()  # what other tests have left
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with Embedder(tiny_model, weight_cache="memory") as model:
            model.encode_tokens(LONG)
        Embedder(tiny_model, weight_cache="memory")  # left to the garbage collector
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("by_descriptor", [True, False])
@pytest.mark.parametrize("name", ['a "quoted" one', "a\\b", "#1 = [x]", "ünï"])
def test_directories_of_any_name(tiny_model, tmp_path, name, by_descriptor, monkeypatch):
    monkeypatch.setattr(packed_weights, "BY_DESCRIPTOR", by_descriptor and packed_weights.BY_DESCRIPTOR)
    directory = tmp_path / name
    for _ in range(2):
        Embedder(tiny_model, weight_cache=directory).close()
    (weights,) = directory.glob("*.weights")
    assert weights.stat().st_size > 0


def test_where_files_cannot_be_named_by_descriptor(tiny_model, monkeypatch):
    monkeypatch.setattr(packed_weights, "BY_DESCRIPTOR", False)
    with Embedder(tiny_model, weight_cache="memory") as model:
        vector = model.encode_tokens(LONG)
    monkeypatch.undo()
    with Embedder(tiny_model, weight_cache="memory") as model:
        assert np.array_equal(model.encode_tokens(LONG), vector)


def test_without_a_file_in_memory_each_graph_packs_its_own(tiny_model, monkeypatch, compiled):
    create = getattr(os, "memfd_create", None)

    def refuse(name):
        if name == "packed-weights":
            raise OSError(24, "Too many open files")
        return create(name)

    monkeypatch.setattr(os, "memfd_create", refuse, raising=False)
    file = ModelFile.open(tiny_model)
    engine = CpuEngine(file.path, file.manifest, 1, ":memory")
    assert np.isfinite(engine.run(8, SHORT)).all()
    assert compiled[0][2] == ":memory"
    engine.close()


def test_an_interrupt_loses_no_graph(engine, monkeypatch):
    def interrupt(self, ids, pad_id):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(c_api.Graph, "run", interrupt)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                engine.run(8, SHORT)
    assert np.isfinite(engine.run(8, SHORT)).all()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc")
def test_while_a_bucket_compiles_standard_error_is_where_it_was(engine, monkeypatch, capfd):
    """For a child process that starts meanwhile, and for another thread."""
    graph, seen = cpu.Graph, []

    def build(*arguments):
        child = subprocess.Popen(["sleep", "60"])
        seen.append(os.readlink(f"/proc/{child.pid}/fd/2"))
        child.kill()
        child.wait()
        thread = threading.Thread(target=lambda: os.write(2, b"from a thread\n"))
        thread.start()
        thread.join()
        seen.append(capfd.readouterr().err)
        return graph(*arguments)

    monkeypatch.setattr(cpu, "Graph", build)
    engine.run(8, SHORT)
    assert seen == [os.readlink("/proc/self/fd/2"), "from a thread\n"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("value", "usable"), [(1e30, True), (1e-30, True), (0.0, False), (np.nan, False)])
def test_a_vector_is_usable_if_it_is_finite_and_not_zero(engine, monkeypatch, value, usable):
    # Squares of the first two leave the range of float32.
    vector = np.full(8, value, np.float32)
    monkeypatch.setattr(engine, "_invoke", lambda length, ids, alone: vector)
    if usable:
        assert engine.run(8, SHORT) is vector
    else:
        with pytest.raises(RuntimeFailure, match="cannot be used"):
            engine.run(8, SHORT)
