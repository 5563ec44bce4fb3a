"""Several targets in one run, and the checks of a file on another machine."""

import json
import subprocess
import sys

import pytest

from edge_embed.cli import main
from edge_embed_bench.errors import TargetError
from edge_embed_bench.records.record import OK
from edge_embed_bench.run import session
from edge_embed_bench.run.matrix import Axes
from edge_embed_bench.targets import package


def test_a_target_that_cannot_be_used_costs_no_other_one_its_records(subject, plan, phone):
    phone.set("devices", "FAKE0001\tunauthorized\n")
    names = ["adb", "local", "adb:FAKE0001"]
    axes = Axes(names, ["cpu"], [8], [1], [1])
    work = session.measure(session.open_targets(axes), axes, [subject], plan)
    record = next(work)
    assert (record.cell.target, record.status) == ("local", OK)
    with pytest.raises(TargetError, match=r"(?s)2 targets could not be used.*unauthorized"):
        next(work)


def test_the_command_line_prints_what_was_measured(phone, bench, tiny_model, tmp_path):
    phone.set("installed", "")
    (phone.root / "installed").unlink()
    report = tmp_path / "r.json"
    words = [
        "--target",
        "local,adb",
        "--lengths",
        "8",
        "--threads",
        "1",
        "--repetitions",
        "2",
        "--loads",
        "1",
    ]
    result = bench(tiny_model, *words, "--output", report, "--json")
    assert result.code == 2
    assert [r["cell"]["target"] for r in result.records] == ["local"]
    assert len(json.loads(report.read_text())["records"]) == 1
    assert "demo app is not on the device" in result.err


def verify(capsys, *words):
    code = main(["verify", *map(str, words)])
    return code, *capsys.readouterr()


def test_verify_answers_the_probes_there(phone, tiny_model, capsys):
    code, here, _ = verify(capsys, tiny_model, "--json")
    there_code, there, _ = verify(capsys, tiny_model, "--json", "--target", "adb")
    assert (code, there_code) == (0, 0)
    ours, theirs = json.loads(here), json.loads(there)
    assert theirs["target"] == "adb"
    assert theirs["parity"] == ours["parity"]
    assert phone.files() == []


def test_verify_on_a_target_that_is_gone(phone, tiny_model, capsys):
    phone.set("devices", "")
    code, out, err = verify(capsys, tiny_model, "--target", "adb")
    assert (code, out) == (2, "")
    assert "no device is attached" in err


def test_verify_has_one_source_and_one_place(tiny_model, capsys):
    code, _, err = verify(capsys, tiny_model, "--target", "adb", "--source", "x")
    assert code == 2
    assert "leave one of them out" in err


def test_verify_over_ssh(sshd, tiny_model, capsys):
    code, out, _ = verify(capsys, tiny_model, "--target", sshd.name, "--target-python", sys.executable)
    assert code == 0
    assert f"on {sshd.name}" in out
    assert "agreement with the source" in out
    assert sshd.left() == []


def test_the_wheel_is_one_that_pip_takes(tmp_path):
    wheel = package.write_wheel(tmp_path)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*command, "--target", tmp_path / "site", wheel], check=True, capture_output=True)
    assert (tmp_path / "site/edge_embed_bench/worker/measure.py").is_file()
    assert not (tmp_path / "site/edge_embed_convert").exists()
    metadata = next((tmp_path / "site").glob("edge_embed-*.dist-info")) / "METADATA"
    assert "Requires-Dist: ai-edge-litert" in metadata.read_text()
    assert "extra ==" not in metadata.read_text()
