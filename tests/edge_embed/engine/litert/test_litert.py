"""What stands between us and LiteRT: its log, its delegate, its flatbuffer."""

import contextlib
import ctypes
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import edge_embed
from edge_embed.engine.litert import log
from edge_embed.engine.litert.delegate import partitions
from edge_embed.engine.litert.flatbuffer import keep_only, mapped, signatures
from edge_embed.engine.litert.log import captured_log
from edge_embed.errors import ModelFileError

needs_capture = pytest.mark.skipif(not log._available(), reason="the log of this C library is not captured")


def c_print(text, stream=0):
    """Prints as C code does, to standard error or (1) standard output."""
    libc = ctypes.CDLL(None)
    address = ctypes.c_void_p.in_dll(libc, log._VARIABLES[stream]).value
    libc.fputs(text.encode(), ctypes.c_void_p(address))
    libc.fflush(ctypes.c_void_p(address))


def test_only_this_room_imports_litert():
    package = Path(edge_embed.__file__).parent
    room = package / "engine" / "litert"
    users = [p for p in package.rglob("*.py") if "ai_edge_litert" in p.read_text() and room not in p.parents]
    assert users == []


@needs_capture
def test_lines_of_litert_are_kept_and_others_passed_on(capfd):
    with captured_log() as captured:
        c_print("INFO: [environment.cc:36] Creating\nmine\nERROR: [a.cc:1] broken\n")
        c_print("└ continued\n└ and mine\nWARNING: x\nlast, without an end")
    assert captured.errors == ["[a.cc:1] broken"]
    assert capfd.readouterr().err == "mine\nlast, without an end"


@needs_capture
def test_a_continuation_belongs_to_the_line_before_it(capfd):
    with captured_log():
        c_print("INFO: a\n└ litert's\nmine\n└ mine too\n")
    assert capfd.readouterr().err == "mine\n└ mine too\n"


@needs_capture
def test_an_empty_line_belongs_to_the_line_before_it(capfd):
    with captured_log():
        c_print("\nERROR: a\n\nmine\n\nmine too\n")
    assert capfd.readouterr().err == "\nmine\n\nmine too\n"


@needs_capture
def test_standard_output_is_captured_as_well(capfd):
    with captured_log() as captured:
        c_print("INFO: Failed to load OpenCL library\nmine\n", stream=1)
        c_print("E0000 00:00:1795489051.1 1 delegate_webgpu.cc:478] broken\n=== Source Location Trace: ===\n")
    c_print("", stream=1)
    assert captured.errors == ["broken"]
    assert capfd.readouterr() == ("mine\n", "")


@needs_capture
def test_what_python_and_others_write_is_not_captured(capfd):
    with captured_log() as captured:
        os.write(2, b"INFO: mine\n")
        sys.stderr.write("and mine\n")
        sys.stderr.flush()
        subprocess.run([sys.executable, "-c", "import os; os.write(2, b'of a child\\n')"], check=True)
        assert capfd.readouterr().err == "INFO: mine\nand mine\nof a child\n"
    assert captured.lines == []


@needs_capture
def test_an_error_inside_ends_the_capture(capfd):
    def fail():
        c_print("before\n")
        raise KeyError("x")

    with pytest.raises(KeyError), captured_log():
        fail()
    c_print("after\n")
    assert capfd.readouterr().err == "before\nafter\n"


@needs_capture
def test_nested_and_from_threads(capfd):
    def work(index):
        for _ in range(20):
            with captured_log() as outer:
                c_print("ERROR: outer\n")
                with captured_log() as inner:
                    c_print(f"ERROR: inner\n{index}\n")
                assert (outer.errors, inner.errors) == (["outer"], ["inner"])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(capfd.readouterr().err.split()) == sorted(str(i) for i in range(4) for _ in range(20))


@needs_capture
def test_what_comes_late_and_what_is_long(capfd):
    streams = log._available()
    libc = ctypes.CDLL(None)
    libc.fputs(b"INFO: late\nmine\n", ctypes.c_void_p(streams.streams[0].address))
    with captured_log() as captured:
        pass
    assert captured.lines == []
    for _ in range(3):
        with captured_log() as captured:
            c_print("INFO: " + "x" * 700_000 + "\n")
        assert len(captured.lines) == 1
    assert capfd.readouterr().err == "mine\n"


@needs_capture
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_forked_during_a_capture_can_print_and_capture(capfd):
    """As when an interrupt ended the fork's wait for the capture."""
    inside, leave = threading.Event(), threading.Event()

    def capture():
        with captured_log():
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=capture)
    thread.start()
    inside.wait(30)
    child = ctypes.PyDLL(None).fork()  # without Python's hooks, which would wait
    if not child:
        log._after_fork_in_child()
        c_print("of the child\n")
        with captured_log() as captured:
            c_print("ERROR: x\n")
        os._exit(len(captured.errors) - 1)
    leave.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert capfd.readouterr().err == "of the child\n"


def test_another_c_library_leaves_everything_visible(monkeypatch, capfd):
    def fail():
        raise AttributeError("gnu_get_libc_version")

    monkeypatch.setattr(log, "_streams", None)
    monkeypatch.setattr(log, "_Streams", fail)
    monkeypatch.setattr(log, "_unavailable", False)
    with captured_log() as captured:
        os.write(2, b"INFO: x\n")
    assert captured.lines == []
    assert capfd.readouterr().err == "INFO: x\n"


def test_without_a_standard_error():
    saved = os.dup(2)
    os.close(2)
    try:
        with captured_log() as captured:
            pass
    finally:
        os.dup2(saved, 2)
        os.close(saved)
    assert captured.errors == []


def test_no_descriptor_is_left_open():
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc")
    with captured_log():
        pass
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        with captured_log():
            pass
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("length", [8, 16, 32])
def test_every_signature_is_one_partition(tiny_model, length, capfd):
    report = partitions(tiny_model, length)
    assert report.partitions == 1
    assert "EMBEDDING_LOOKUP" in report.outside
    assert "FULLY_CONNECTED" not in report.outside
    assert report.nodes > len(report.outside)
    assert capfd.readouterr().err == ""


def test_one_signature_is_left(tiny_model):
    from ai_edge_litert.interpreter import Interpreter

    before = tiny_model.read_bytes()
    for length in (8, 16, 32):
        data = mapped(tiny_model)
        everything = signatures(data)
        assert list(everything) == ["embed_8", "embed_16", "embed_32"]
        keep_only(data, f"embed_{length}")
        assert signatures(data) == {f"embed_{length}": everything[f"embed_{length}"]}
        assert everything[f"embed_{length}"].inputs == {"tokens": ("int32", [1, length])}
        with captured_log():
            interpreter = Interpreter(model_content=bytes(data))
        assert interpreter.get_input_details()[0]["shape"].tolist() == [1, length]
        assert list(interpreter.get_signature_list()) == [f"embed_{length}"]
    assert tiny_model.read_bytes() == before


def test_signatures_that_are_not_there(tiny_model, tmp_path):
    with pytest.raises(ModelFileError, match="no signature embed_64"):
        partitions(tiny_model, 64)
    for index, content in enumerate([b"", b"text", b"\0\0\0\0TFL3", b"\xff\xff\xff\xffTFL3" + b"\xff" * 64]):
        path = tmp_path / f"{index}.tflite"
        path.write_bytes(content)
        with pytest.raises(ModelFileError):
            keep_only(mapped(path), "embed_8")


@given(data=st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_flatbuffer_is_an_error_of_ours(tiny_graph, tmp_path, data):
    content = bytearray(tiny_graph)
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(8, 400))] = data.draw(st.integers(0, 255))
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    with contextlib.suppress(ModelFileError):  # any other error fails the test
        signatures(mapped(path))
        keep_only(mapped(path), "embed_16")
