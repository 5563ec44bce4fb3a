"""Where the time of a text goes, by operator."""

import json

import pytest

QUICK = ("--operators", "--threads", "1", "--repetitions", "4")


def test_every_operator_is_counted(bench, tiny_model):
    result = bench(tiny_model, *QUICK, "--lengths", "8,16", "--json")
    assert result.code == 0, result.err
    short, long = json.loads(result.out)
    assert (short["file"], short["length"], long["length"], long["threads"]) == (tiny_model.name, 8, 16, 1)
    counts = {o["name"]: o["count"] for o in short["operators"]}
    assert counts["CAST"] == 1
    assert sum(count for name, count in counts.items() if name.startswith("Fully Connected")) == 2
    # Each node of this small graph may take less than the microsecond that the profiler counts.
    assert all(o["seconds"] >= 0 for o in short["operators"])
    assert short["seconds"] > 0
    assert {o["name"]: o["count"] for o in long["operators"]} == counts


def test_the_table_names_what_it_measured(bench, tiny_model):
    lines = bench(tiny_model, *QUICK, "--lengths", "8").out.splitlines()
    assert lines[0] == f"{tiny_model.name}, 8 tokens, 1 threads"
    assert lines[2].split() == ["operator", "nodes", "ms", "share"]
    rows = [line.split() for line in lines[3:] if line]
    assert rows[-1][0] == "all"
    assert rows[-2][0] == "(calls,"
    assert int(rows[-1][1]) == sum(int(row[-3]) for row in rows[:-2])
    assert rows[-1][-1] == "100.0%"
    # The rows add up to the whole run, but for the rounding of each.
    assert float(rows[-1][2]) == pytest.approx(sum(float(row[-2]) for row in rows[:-1]), abs=0.02)


@pytest.mark.parametrize("option", ["--peers=openvino", "--batch=2", "--output=x.json"])
def test_options_that_mean_nothing_here(bench, tiny_model, option):
    result = bench(tiny_model, *QUICK, option)
    assert result.code == 2
    assert "does nothing with --operators" in result.err
