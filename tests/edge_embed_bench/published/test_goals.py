"""Goals: judged on the records of one run, and never met by a peer that gave no figure."""

from dataclasses import replace

import pytest

from edge_embed_bench.commands import bench as cli
from edge_embed_bench.published import goals
from edge_embed_bench.records.record import CORPUS, FAILED, EngineFacts, Memory, Throughput

GOAL = goals.Goal("slow", goals.LATENCY, {16: 2.0})


@pytest.fixture
def peer(record):
    def make(samples=(0.030, 0.031, 0.032), **changes):
        return record(samples, engine=EngineFacts("slow", {"slow": "1"}, {}), **changes)

    return make


def test_every_goal_names_a_known_peer():
    assert {goal.peer for goal in (*goals.GOALS, *goals.CORPUS_GOALS)} <= set(cli.PEERS)
    assert all(goal.figure in goals.FIGURES for goal in (*goals.GOALS, *goals.CORPUS_GOALS))


@pytest.mark.parametrize(
    ("ours", "verdict"), [(0.010, goals.MET), (0.0155, goals.MET), (0.0156, goals.MISSED)]
)
def test_latency_is_a_ratio_of_medians(record, peer, ours, verdict):
    (outcome,) = goals.assess([record([ours] * 3), peer()], [GOAL])
    assert outcome.verdict == verdict
    assert outcome.measured["int8"].startswith(f"{0.031 / ours:.2f}")


def test_one_recipe_is_enough(record, peer):
    rows = [record([0.020] * 3), record([0.010] * 3, recipe="mixed"), peer()]
    (outcome,) = goals.assess(rows, [GOAL])
    assert outcome.verdict == goals.MET
    assert list(outcome.measured) == ["int8", "mixed"]


def test_what_failed_decides_nothing_for_us(record, peer):
    broken = {"status": FAILED, "error": "died", "latency": None}
    (without_peer,) = goals.assess([record(), peer(**broken)], [GOAL])
    assert without_peer.verdict == goals.UNDECIDED
    (without_us,) = goals.assess([record(**broken), peer()], [GOAL])
    assert without_us.verdict == goals.MISSED
    assert goals.assess([record(length=32), peer(length=32)], [GOAL]) == []


def test_memory(record, peer):
    goal = goals.Goal("slow", goals.MEMORY, {16: 5.0})
    large = peer(memory=Memory(400_000_000, 300_000_000, 500_000_000))
    (outcome,) = goals.assess([record(), large], [goal])
    assert outcome.verdict == goals.MET
    assert outcome.measured["int8"].startswith("5.56")
    limits = [goals.Limit("int8", 16, 100_000_000), goals.Limit("int8", 16, 80_000_000)]
    assert [o.verdict for o in goals.assess([record()], [], limits)] == [goals.MET, goals.MISSED]


def test_corpus(record, peer):
    def indexed(one, rate):
        whole = Throughput("c", 10, 100, 0, 10 / rate, 0.1, [1.0], rate, 10 * rate)
        cell = replace(one.cell, length=0)
        return replace(one, kind=CORPUS, cell=cell, latency=None, text_latency=None, throughput=whole)

    goal = goals.Goal("slow", goals.SPEED, {0: 1.5})
    (outcome,) = goals.assess([indexed(record(), 31), indexed(peer(), 20)], [goal])
    assert (outcome.verdict, outcome.tokens) == (goals.MET, 0)
    table = goals.to_lines([outcome])
    assert "corpus" in table[-1]
    assert "1.55" in table[-1]
