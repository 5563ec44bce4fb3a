"""What stands between us and LiteRT: its chatter, its delegate, its flatbuffer."""

import contextlib
import os
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_embed.engine.base import partitions, quiet_stderr
from edge_embed.engine.litert.flatbuffer import keep_only, mapped, signatures
from edge_embed.errors import ModelFileError


def test_lines_of_litert_are_kept_and_others_passed_on(capfd):
    with quiet_stderr() as captured:
        os.write(2, b"INFO: [environment.cc:36] Creating\nmine\nERROR: [a.cc:1] broken\n")
        os.write(2, "└ continued\n└ and mine\nWARNING: x\nlast, without an end".encode())
    assert captured.errors == ["[a.cc:1] broken"]
    assert capfd.readouterr().err == "mine\nlast, without an end"


def test_a_continuation_belongs_to_the_line_before_it(capfd):
    with quiet_stderr():
        os.write(2, "INFO: a\n└ litert's\nmine\n└ mine too\n".encode())
    assert capfd.readouterr().err == "mine\n└ mine too\n"


def test_an_empty_line_belongs_to_the_line_before_it(capfd):
    with quiet_stderr():
        os.write(2, b"\nERROR: a\n\nmine\n\nmine too\n")
    assert capfd.readouterr().err == "\nmine\n\nmine too\n"


def test_an_error_inside_gives_the_descriptor_back(capfd):
    def fail():
        os.write(2, b"before\n")
        raise KeyError("x")

    with pytest.raises(KeyError), quiet_stderr():
        fail()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "before\nafter\n"


def test_nested_and_from_threads(capfd):
    def work(index):
        for _ in range(20):
            with quiet_stderr(), quiet_stderr():
                os.write(2, f"INFO: x\n{index}\n".encode())

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(capfd.readouterr().err.split()) == sorted(str(i) for i in range(4) for _ in range(20))


def test_without_a_standard_error():
    saved = os.dup(2)
    os.close(2)
    try:
        with quiet_stderr() as captured:
            pass
    finally:
        os.dup2(saved, 2)
        os.close(saved)
    assert captured.errors == []


def test_no_descriptor_is_left_behind():
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(50):
        with quiet_stderr():
            os.write(2, b"INFO: x\n")
    assert (len(os.listdir("/proc/self/fd")) if before else 0) == before


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
        with quiet_stderr():
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
