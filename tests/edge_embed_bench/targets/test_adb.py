"""The adb target against a stand-in that runs the pushed model, and every fault that a cable brings."""

import re
from dataclasses import replace

import pytest

from edge_embed.errors import InputError
from edge_embed_bench.errors import TargetError
from edge_embed_bench.records.record import FAILED, OK, Cell
from edge_embed_bench.targets.base import Plan, Settings, open_target


def run(subjects, plan, name="adb", **changes):
    target = open_target(name, Settings())
    try:
        target.prepare()
        return list(target.measure(subjects, replace(Cell(name, "cpu", 8, 1, 1), **changes), plan))
    finally:
        target.close()


def test_a_record_from_the_device(phone, subject, plan):
    (record,) = run([subject], plan, "adb:FAKE0001")
    assert (record.status, record.error) == (OK, None)
    assert record.cell.target == "adb:FAKE0001"
    assert len(record.latency.samples_s) == plan.run.repetitions
    machine = record.machine
    assert (machine.model, machine.soc, machine.system) == ("Maker Phone 1", "SoC 9000", "Android 15")
    assert machine.architecture == "arm64-v8a"
    assert (record.conditions.temperature_before_c, record.conditions.temperature_after_c) == (43.25, 43.25)
    assert record.conditions.cores
    assert record.model == subject.model.facts
    assert phone.files() == []


def test_the_model_is_pushed_once_and_each_cell_has_a_fresh_process(phone, subject, plan):
    target = open_target("adb", Settings())
    target.prepare()
    for length in (8, 16):
        (record,) = target.measure([subject], Cell("adb", "cpu", length, 1, 1), plan)
        assert (record.status, record.latency.tokens) == (OK, length)
    target.close()
    assert phone.log().count(" push ") == 1
    assert phone.log().count("am force-stop") >= 4


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("devices", "", "no device is attached"),
        ("devices", "FAKE0001\tunauthorized\n", "(?s)unauthorized.*allow USB debugging"),
        ("devices", "FAKE0001\toffline\n", "(?s)offline.*plug it in again"),
        ("devices", "A\tdevice\nB\tdevice\n", "(?s)more than one.*A, B.*adb:SERIAL"),
        ("properties/ro.product.cpu.abi", "armeabi-v7a\n", "(?s)not built for.*armeabi-v7a.*arm64-v8a"),
        ("installed", None, "(?s)demo app is not on the device.*android_demo/README.md"),
    ],
)
def test_a_device_that_cannot_be_used(phone, name, text, problem):
    (phone.root / name).unlink()
    if text is not None:
        phone.set(name, text)
    with pytest.raises(TargetError, match=problem):
        open_target("adb", Settings()).prepare()


def test_another_serial(phone):
    with pytest.raises(TargetError, match="no device OTHER is attached"):
        open_target("adb:OTHER", Settings()).prepare()


def test_no_adb(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match=r"(?s)no adb is installed.*platform-tools"):
        open_target("adb", Settings()).prepare()


@pytest.mark.parametrize("name", ["adb:", "adb:a b", "adb:$(x)", "adbx:1"])
def test_names_that_are_none(name):
    with pytest.raises(InputError):
        open_target(name, Settings())


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("behaviour", "killed", "without a record.*killed for memory"),
        ("behaviour", "hung", "no record within 2 s"),
        ("behaviour", "refused", "could not open the model.*graph is damaged"),
        ("free", "1", "no room left.*0 MB free"),
        ("full", "", "no room left.*No space left on device"),
    ],
)
def test_a_run_that_fails_is_a_record_and_leaves_nothing(phone, subject, plan, name, text, problem):
    phone.set(name, text)
    (record,) = run([subject], Plan(plan.run, timeout=2))
    assert record.status == FAILED
    assert record.error is not None
    assert re.search(problem, record.error), record.error
    assert phone.files() == []


def test_unplugged_while_it_measures(phone, subject, plan):
    phone.set("behaviour", "unplugged")
    with pytest.warns(UserWarning, match="may be left"):
        records = run([subject, subject], plan)
    assert [record.status for record in records] == [FAILED, FAILED]
    assert all("is gone" in record.error for record in records)


def test_what_the_activity_does_not_do(phone, subject, fake, plan, tmp_path):
    assert "one text at a time" in run([subject], plan, batch=4)[0].error
    assert "not in the demo app" in run([fake("peer")], plan)[0].error
    target = open_target("adb", Settings())
    target.prepare()
    record = target.index(subject, Cell("adb", "cpu", 0, 1, 32), plan, tmp_path / "c.txt", ["a"])
    assert (record.status, record.kind) == (FAILED, "corpus")
