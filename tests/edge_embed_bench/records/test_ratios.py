"""Checking published ratios: a fall beyond the interval fails, noise and better figures do not."""

import json
from dataclasses import replace

import numpy as np
import pytest

from edge_embed.errors import InputError
from edge_embed_bench.records import ratios
from edge_embed_bench.records.ratios import BETTER, FELL, GONE, HELD, UNCOMPARED, UNSURE, check_ratios
from edge_embed_bench.records.record import CORPUS, FAILED, EngineFacts, Memory, Throughput, to_json


def noisy(seed, factor=1.0, count=40, noise=0.05):
    generator = np.random.default_rng(seed)
    return (0.01 * factor * np.exp(generator.normal(0, noise, count))).tolist()


@pytest.fixture
def report(record):
    """`report(seed, ours=1.0, peer=2.0)` is a report: one file of ours and one peer, by their times."""

    def make(seed, ours=1.0, peer=2.0, *, length=16, noise=0.05, **changes):
        facts = EngineFacts("slow", {"slow": "1"}, {})
        return [
            record(noisy(seed, ours, noise=noise), length=length, **changes),
            record(noisy(seed + 1, peer, noise=noise), length=length, engine=facts),
        ]

    return make


def of_a_corpus(records, seed):
    whole = Throughput("c", 10, 100, 0, 1.0, 0.1, [1.0], 10.0, 100.0)
    return [
        replace(
            r,
            kind=CORPUS,
            cell=replace(r.cell, length=0),
            latency=None,
            throughput=replace(whole, chunks_s=noisy(seed, 1 + place)),
        )
        for place, r in enumerate(records)
    ]


def verdicts(published, later):
    return {s.figure: s.verdict for s in check_ratios(published, later, slack=0.05).standings}


@pytest.mark.parametrize(("ours", "verdict"), [(1.0, HELD), (1.3, FELL), (0.7, BETTER)])
def test_a_change_of_ours(report, ours, verdict):
    assert verdicts(report(1), report(3, ours)) == {"latency": verdict, "peak memory": HELD}


def test_a_machine_that_is_slower_for_both_changes_no_ratio(report):
    assert verdicts(report(1), report(3, 3.0, 6.0))["latency"] == HELD


def test_a_wide_interval_is_unsure_and_passes(report):
    result = check_ratios(report(1), report(3, 1.25, noise=0.8), slack=0.05)
    assert {s.figure: s.verdict for s in result.standings}["latency"] == UNSURE
    assert not result.failed
    assert "raise --repetitions" in ratios.to_text(result)


@pytest.mark.parametrize(("peak", "verdict"), [(94_000_000, HELD), (96_000_000, FELL)])
def test_memory_may_grow_by_the_threshold(report, peak, verdict):
    later = report(1)
    later[0] = replace(later[0], memory=Memory(80_000_000, 20_000_000, peak))
    assert verdicts(report(1), later)["peak memory"] == verdict


def test_the_table_ends_with_what_fell(report):
    text = ratios.to_text(check_ratios(report(1), report(3, 1.3), slack=0.05))
    assert text.splitlines()[-1] == "1 of 2 ratios fell"
    assert text.splitlines()[-2].startswith(
        "FELL: tiny.int8 beside slow, 16 tokens, 2 threads, batch 1, latency"
    )
    assert "no ratio fell" in ratios.to_text(check_ratios(report(1), report(3), slack=0.05))


def test_what_failed_now(report):
    nothing = {"status": FAILED, "error": "died", "latency": None, "memory": None}
    ours, peer = report(3)
    assert set(verdicts(report(1), [replace(ours, **nothing), peer]).values()) == {GONE}
    assert set(verdicts(report(1), [ours, replace(peer, **nothing)]).values()) == {UNCOMPARED}


def test_only_what_was_measured_again_is_compared(report):
    published = [*report(1), *report(1, length=64), *report(1, recipe="mixed")[:1]]
    found = check_ratios(published, report(3), slack=0.05).standings
    assert {(s.subject, s.cell.length) for s in found} == {("tiny.int8", 16)}


def test_the_table_says_what_was_not_measured_and_why(report):
    ours, peer = report(3)
    nothing = {"status": FAILED, "error": "not installed:\npip install slow", "latency": None, "memory": None}
    published = [*report(1), *of_a_corpus(report(1), 1)]
    check = check_ratios(published, [ours, replace(peer, **nothing)], slack=0.05)
    lines = ratios.to_text(check).splitlines()
    assert lines[-3:] == [
        "not measured: 2 ratios beside slow: not installed:; pip install slow",
        "not asked for: 2 ratios of tiny.int8, corpus, 2 threads, batch 1 (--corpus measures them)",
        "no ratio fell; 0 of 2 compared",
    ]
    shown = json.loads(ratios.to_json(check))
    assert shown["left"] == {"tiny.int8, corpus, 2 threads, batch 1": 2}
    assert {r["reason"] for r in shown["ratios"]} == {"not installed:\npip install slow"}


def test_a_fall_on_another_machine_says_so(report):
    later = [replace(r, machine=replace(r.machine, cpu="another")) for r in report(3, 1.3)]
    text = ratios.to_text(check_ratios(report(1), later, slack=0.05))
    assert text.splitlines()[-2:] == [
        "the machine is not the one of the published report, which moves ratios too",
        "1 of 2 ratios fell",
    ]


def test_a_corpus(report):
    found = verdicts(of_a_corpus(report(1), 1), of_a_corpus(report(1), 3))
    assert found["corpus, per call"] == HELD


def test_reports_without_a_common_ratio(report):
    with pytest.raises(InputError, match="holds no ratio"):
        check_ratios(report(1)[:1], report(3), slack=0.05)
    with pytest.raises(InputError, match="no ratio in common"):
        check_ratios(report(1), report(3, length=64), slack=0.05)


def test_the_command_on_two_reports(bench, report, tmp_path):
    published, same, slower = (tmp_path / f"{name}.json" for name in ("published", "same", "slower"))
    for path, records in ((published, report(1)), (same, report(3)), (slower, report(3, 1.3))):
        path.write_text(to_json(records), "utf-8")
    assert bench(same, "--check", published).code == 0
    result = bench(slower, "--check", published)
    assert result.code == 1
    assert "FELL: tiny.int8 beside slow" in result.out
    shown = json.loads(bench(slower, "--check", published, "--json").out)
    assert (shown["passed"], [r["verdict"] for r in shown["ratios"]]) == (False, [FELL, HELD])


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--check", "OURS"], "has no latency record of this project beside a peer"),
        (["--check", "BOTH"], "the model file to measure is missing"),
        (["BOTH", "--check", "BOTH", "--threads", "1"], "does nothing when two reports"),
        (["--check", "BOTH", "--compare", "BOTH", "BOTH"], "two questions"),
        (["--check", "none.json"], "none.json"),
    ],
)
def test_what_cannot_be_checked(bench, report, tmp_path, words, problem):
    facts = EngineFacts("openvino", {"openvino": "1"}, {})
    ours, peer = report(1)
    files = {"OURS": [ours], "BOTH": [ours, replace(peer, engine=facts)]}
    for name, records in files.items():
        (tmp_path / f"{name}.json").write_text(to_json(records), "utf-8")
    result = bench(*[tmp_path / f"{word}.json" if word in files else word for word in words])
    assert result.code == 2
    assert problem in result.err


def test_the_plan_of_the_published_report_is_measured_again(bench, report, tiny_model, tmp_path, monkeypatch):
    from edge_embed_bench.run import bench as command

    facts = EngineFacts("openvino", {"openvino": "1"}, {})
    published = []
    for length in (16, 32):
        ours, peer = report(1, length=length)
        published += [ours, replace(peer, engine=facts)]
    path = tmp_path / "published.json"
    path.write_text(to_json(published), "utf-8")
    seen = {}

    def measure(args, paths, records):
        seen.update(vars(args), paths=paths)
        records += published

    monkeypatch.setattr(command, "_measure", measure)
    result = bench(tiny_model, "--check", path, "--lengths", "16", "--checkpoint", tmp_path)
    assert result.code == 0, result.err
    assert (seen["paths"], seen["lengths"], seen["threads"], seen["batch"], seen["peers"]) == (
        [tiny_model],
        [16],
        [2],
        [1],
        ["openvino"],
    )
