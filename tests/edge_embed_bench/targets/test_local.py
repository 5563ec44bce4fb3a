"""The local target: real measuring processes, also ones that fail in every way."""

import math
import os
import re
from dataclasses import replace

import pytest

from edge_embed_bench.records.record import FAILED, OK, OURS, Cell
from edge_embed_bench.targets import workers
from edge_embed_bench.targets.local import Local
from edge_embed_bench.worker import measure

CELL = Cell("local", "cpu", 8, 1, 2)


def run(subjects, plan, cell=CELL):
    return list(Local().measure(subjects, cell, plan))


def test_every_figure_of_our_own_engine(subject, plan):
    (record,) = run([subject], plan)
    assert (record.status, record.error) == (OK, None)
    assert len(record.latency.samples_s) == len(record.text_latency.samples_s) == plan.run.repetitions
    assert len(record.latency.processor_s) == plan.run.repetitions
    assert record.latency.tokens == 8
    assert 3 <= record.text_latency.tokens <= 8
    assert record.latency.texts_per_s == pytest.approx(2 / record.latency.median_s)
    assert record.load.cold_s > 0
    assert len(record.load.warm_s) == len(record.load.first_s) == plan.loads
    assert record.memory.peak_bytes >= record.memory.rss_bytes > record.memory.anonymous_bytes
    assert record.text_memory.peak_bytes >= record.memory.peak_bytes
    assert record.storage.file_bytes == subject.model.path.stat().st_size
    assert record.delegate.partitions >= 1
    assert record.conditions.cores == sorted(os.sched_getaffinity(0))
    assert set(record.not_measured) - {"conditions.temperature_c"} == {"agreement"}
    assert "ai-edge-litert" in record.engine.versions


def test_subjects_take_turns(subject, fake, plan):
    ours, peer = run([subject, fake("calm")], plan)
    assert (ours.status, peer.status) == (OK, OK)
    assert (ours.run.interleaved_with, peer.run.interleaved_with) == (["calm"], ["tiny.fp32"])
    assert peer.engine.versions == {"fake": "1"}
    assert {"text_latency", "delegate", "load.cold_s", "storage.cache_bytes"} <= set(peer.not_measured)


@pytest.mark.parametrize(
    ("name", "behaviour", "problem"),
    [
        ("unloadable", {"load": "raise RuntimeError('no such kernel')"}, "load failed.*no such kernel"),
        (
            "killed",
            {"embed": "self.calls > 3 and os.kill(os.getpid(), signal.SIGSEGV)"},
            "died in embed.*SIGSEGV",
        ),
        (
            "leaving",
            {"embed": "print('last words', file=sys.stderr); os._exit(3)"},
            "exit code 3: .*last words",
        ),
        ("greedy", {"load": "raise MemoryError"}, "out of memory"),
        ("flat", {"dimension": 5}, "another shape"),
        ("wrong", {}, "wrong vectors.*cosine"),
    ],
)
def test_a_subject_that_fails_is_a_row_and_the_rest_goes_on(subject, fake, plan, name, behaviour, problem):
    vector = [1.0, -1.0] * 4 if name == "wrong" else [1.0] * 8
    bad = fake(name, least_cosine=0.9, **behaviour)
    plan.reference[subject.model.facts.sha256, 8] = [vector, vector]
    failed, fine = run([bad, fake("calm")], plan)
    assert (failed.status, failed.latency, failed.memory) == (FAILED, None, None)
    assert re.search(problem, failed.error), failed.error
    assert fine.status == OK
    assert fine.agreement.cosine_min == pytest.approx(1.0 if name != "wrong" else 0.0, abs=1e-6)


def test_a_subject_that_hangs_is_killed(fake, plan):
    hung = fake("hung", embed="time.sleep(60)")
    (record,) = run([hung], type(plan)(plan.run, loads=1, timeout=1))
    assert "no answer to embed within 1 s" in record.error


def test_an_engine_that_cannot_be_imported(subject, plan):
    missing = replace(subject, engine="gone", module="edge_embed_bench_no_such:Engine")
    (record,) = run([missing], plan)
    assert "open failed" in record.error
    assert "edge_embed_bench_no_such" in record.error


def test_a_known_problem_is_not_tried(subject, plan):
    (record,) = run([replace(subject, problem="not installed")], plan)
    assert (record.status, record.error) == (FAILED, "not installed")


@pytest.mark.parametrize(("figure", "value"), [("rss_bytes", None), ("rss_bytes", 0), ("peak_bytes", 0)])
def test_memory_that_reads_zero_or_nothing_fails_the_record(fake, plan, monkeypatch, figure, value):
    honest = workers.WorkerProcess.ask

    def ask(self, op, **arguments):
        answer = honest(self, op, **arguments)
        return answer | {figure: value} if op == "memory" else answer

    monkeypatch.setattr(workers.WorkerProcess, "ask", ask)
    (record,) = run([fake("calm")], plan)
    assert record.status == FAILED
    assert record.memory is None


def test_a_clock_that_stands_still_fails_the_record(fake, plan, monkeypatch):
    honest = workers.WorkerProcess.ask

    def ask(self, op, **arguments):
        answer = honest(self, op, **arguments)
        return answer | {"samples_s": [0.0] * arguments["calls"]} if op == "embed" else answer

    monkeypatch.setattr(workers.WorkerProcess, "ask", ask)
    (record,) = run([fake("calm")], plan)
    assert record.status == FAILED
    assert "0.0" in record.error


def test_memory_of_this_process():
    figures = measure.read_memory()
    assert 0 < figures["anonymous_bytes"] < figures["rss_bytes"] <= figures["peak_bytes"] < math.inf


def test_corpus(subject, plan, tmp_path):
    texts = ["the red planet", "water " * 60, "stone"]
    record = Local().index(subject, Cell("local", "cpu", 0, 1, 2), plan, tmp_path / "c.txt", texts)
    assert (record.status, record.error) == (OK, None)
    result = record.throughput
    assert (result.documents, result.truncated, result.corpus) == (3, 1, "c.txt")
    assert result.documents_per_s == pytest.approx(3 / result.total_s)
    assert result.first_vector_s > record.load.warm_s[0]
    assert 32 < result.tokens < 3 * 32


def test_corpus_of_an_engine_that_dies(fake, plan, tmp_path):
    bad = fake("dead", load="os._exit(1)")
    record = Local().index(bad, Cell("local", "cpu", 0, 1, 2), plan, tmp_path / "c.txt", ["a"])
    assert record.status == FAILED
    assert record.engine.name != OURS
