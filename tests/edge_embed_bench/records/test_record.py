"""The schema: what goes in comes out, and what cannot be measured cannot be recorded."""

import json
import math
from dataclasses import asdict, replace

import pytest

from edge_embed.errors import InputError
from edge_embed_bench.errors import MeasurementError
from edge_embed_bench.records.record import (
    SCHEMA_VERSION,
    Conditions,
    Latency,
    Memory,
    Storage,
    from_json,
    read,
    to_json,
)


def test_json_round_trip(record):
    records = [record(), record(storage=None, not_measured={"storage": "why"}), record(length=32, name="ü")]
    assert from_json(to_json(records)) == records


def test_latency_figures():
    latency = Latency.of([0.1, 0.2, 0.3], tokens=16, batch=4)
    assert (latency.median_s, latency.p95_s) == (pytest.approx(0.2), pytest.approx(0.29))
    assert (latency.tokens_per_s, latency.texts_per_s) == (pytest.approx(320), pytest.approx(20))


@pytest.mark.parametrize("samples", [[], [0.1, 0.0], [-1e-9], [math.nan], [math.inf]])
def test_a_clock_that_stands_still_is_an_error(samples):
    with pytest.raises(MeasurementError, match="clock"):
        Latency.of(samples, tokens=16, batch=1)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"memory": Memory(0, 1, 1)}, "memory.rss_bytes"),
        ({"memory": Memory(1, 0, 1)}, "memory.anonymous_bytes"),
        ({"memory": Memory(1, None, -5)}, "memory.peak_bytes"),
        ({"storage": Storage(1, 0)}, "storage.cache_bytes"),
    ],
)
def test_a_zero_is_an_error_and_no_figure(record, change, field):
    with pytest.raises(MeasurementError, match=field):
        record(**change)


def test_a_zero_in_a_list_of_loads(record):
    good = record()
    with pytest.raises(MeasurementError, match="warm_s"):
        replace(good, load=replace(good.load, warm_s=[0.1, 0.0]))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not valid JSON"),
        ("[]", "no benchmark records"),
        ('{"schema_version": true, "records": []}', "no benchmark records"),
        ('{"schema_version": 1}', "no benchmark records"),
        (f'{{"schema_version": {SCHEMA_VERSION + 1}, "records": []}}', "another version"),
        ('{"schema_version": 1, "records": [3]}', r"records\[0\] is not an object"),
        ('{"schema_version": 1, "records": [{"kind": "latency"}]}', "lacks fields"),
    ],
)
def test_foreign_files(text, problem):
    with pytest.raises(InputError, match=problem):
        from_json(text)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("cell", "length"), "16"),
        (("latency", "samples_s"), 3),
        (("engine", "name"), None),
        (("cell", "threads"), True),
    ],
)
def test_wrong_types_name_the_field(record, path, value):
    raw = asdict(record())
    raw[path[0]][path[1]] = value
    with pytest.raises(InputError, match=".".join(path)):
        from_json(json.dumps({"schema_version": SCHEMA_VERSION, "records": [raw]}))


def test_a_report_of_the_first_schema_is_read(record):
    raw = json.loads(to_json([record()]))
    raw["schema_version"] = 1
    for row in raw["records"]:
        row["schema_version"] = 1
        del row["conditions"]
        for name in ("model", "soc", "emulator"):
            del row["machine"][name]
    assert from_json(json.dumps(raw)) == [record()]


def test_what_the_second_schema_added_survives(record):
    machine = replace(record().machine, model="A Board", soc="brcm,bcm2712", emulator="qemu")
    full = record(machine=machine, conditions=Conditions(40.5, -3.0, [0, 1]))
    assert from_json(to_json([full])) == [full]


def test_unreadable_file(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        read(tmp_path / "none.json")
