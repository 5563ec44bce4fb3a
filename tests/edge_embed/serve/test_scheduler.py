from __future__ import annotations

import itertools
import threading

import pytest

from edge_embed.engine.uninterrupted import uninterrupted
from edge_embed.serve import scheduler as scheduling
from edge_embed.serve.scheduler import Item, QueueFull, Scheduler


def items(*texts: tuple[str, int]) -> list[Item[str]]:
    return [Item(text, bucket, bucket) for text, bucket in texts]


class Recorder:
    """A model that writes down what it ran and can be held."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Event()
        self.alone: list[bool] = []

    def __call__(self, work: str, alone: bool) -> str:
        self.began.set()
        self.gate.wait(10)
        self.ran.append(work)
        self.alone.append(alone)
        if work == "bad":
            raise ValueError("bad")
        return work.upper()


@pytest.fixture
def recorder():
    return Recorder()


def start(recorder, workers=1, max_texts=100, max_tokens=10_000, **limits):
    return Scheduler(recorder, workers=workers, max_texts=max_texts, max_tokens=max_tokens, **limits)


def submit(scheduler, *texts):
    finished = threading.Event()
    job = scheduler.submit(items(*texts), lambda job: finished.set())
    return job, finished


def test_results_come_in_the_order_of_the_texts(recorder):
    scheduler = start(recorder, workers=3)
    job, finished = submit(scheduler, *((f"t{i}", 16 * (1 + i % 3)) for i in range(40)))
    assert finished.wait(10)
    assert job.results == [f"T{i}" for i in range(40)]
    assert (scheduler.texts, scheduler.tokens) == (0, 0)
    scheduler.stop()


def test_a_single_text_gets_all_threads_and_several_share_them(recorder):
    scheduler = start(recorder, workers=2)
    _, finished = submit(scheduler, ("one", 16))
    assert finished.wait(10)
    _, finished = submit(scheduler, *[("many", 16)] * 4)
    assert finished.wait(10)
    assert recorder.alone[0] is False
    assert recorder.alone[1] is True
    scheduler.stop()


def test_texts_of_one_bucket_run_together_and_the_oldest_goes_first(recorder):
    scheduler = start(recorder)
    recorder.gate.clear()
    submit(scheduler, ("first", 16))
    assert recorder.began.wait(10)
    submit(scheduler, ("a32", 32))
    submit(scheduler, ("a16", 16))
    _, last = submit(scheduler, ("b32", 32))
    recorder.gate.set()
    assert scheduler.drain(10)
    assert last.wait(10)
    assert recorder.ran == ["first", "a32", "b32", "a16"]
    scheduler.stop()


@pytest.mark.parametrize("limits", [{"max_texts": 3}, {"max_tokens": 48}])
def test_a_full_queue_refuses_and_keeps_what_it_has(recorder, limits):
    scheduler = start(recorder, **limits)
    recorder.gate.clear()
    _, finished = submit(scheduler, ("a", 16), ("b", 16))
    with pytest.raises(QueueFull, match="2 texts with 32 tokens"):
        submit(scheduler, ("c", 16), ("d", 16))
    submit(scheduler, ("e", 16))
    recorder.gate.set()
    assert finished.wait(10)
    assert scheduler.drain(10)
    assert recorder.ran == ["a", "b", "e"]
    scheduler.stop()


def test_what_waits_is_limited_in_expected_time(recorder, monkeypatch):
    seconds = itertools.count()
    monkeypatch.setattr(scheduling.time, "perf_counter", lambda: float(next(seconds)))  # a run takes one
    scheduler = start(recorder, max_seconds=4.5)
    _, finished = submit(scheduler, ("a", 16))
    assert finished.wait(10)
    assert scheduler.seconds == 0
    recorder.gate.clear()
    submit(scheduler, *[("b", 16)] * 3)
    assert scheduler.seconds == 3
    scheduler.check_room(1)
    submit(scheduler, ("longer", 32))  # no such text has run: twice as long as half of its tokens
    assert scheduler.seconds == 5
    with pytest.raises(QueueFull, match="about 5 seconds"):
        submit(scheduler, ("c", 16))
    with pytest.raises(QueueFull) as caught:
        scheduler.check_room(1)
    assert caught.value.seconds == 5
    recorder.gate.set()
    assert scheduler.drain(10)
    submit(scheduler, *[("d", 16)] * 9)  # alone it may take longer
    assert scheduler.drain(10)
    assert scheduler.seconds == 0
    scheduler.stop()


def test_the_expected_time_is_shared_between_the_workers_and_follows_the_measured(recorder, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(scheduling.time, "perf_counter", lambda: clock[0])
    scheduler = start(recorder, workers=2)

    def run(work, alone):
        clock[0] += float(work)
        return recorder(work, alone)

    scheduler._run = run
    for seconds in ["1", *["3"] * 60]:
        _, finished = submit(scheduler, (seconds, 16))
        assert finished.wait(10)
    recorder.gate.clear()
    submit(scheduler, *[("3", 16)] * 4)
    assert scheduler.seconds == pytest.approx(6, rel=0.01)
    recorder.gate.set()
    scheduler.stop()


def test_workers_run_in_their_own_threads():
    threads = []

    def run(work, alone):
        threads.append((threading.get_ident(), uninterrupted(threading.get_ident)))
        return work

    scheduler = Scheduler(run, workers=2, max_texts=100, max_tokens=10_000)
    _, finished = submit(scheduler, *[("x", 16)] * 10)
    assert finished.wait(10)
    assert all(worker == inner for worker, inner in threads)
    assert len(threads) == 10
    scheduler.stop()


def test_one_job_above_the_limit_runs_when_nothing_else_waits(recorder):
    scheduler = start(recorder, max_texts=2)
    _, finished = submit(scheduler, *[("x", 16)] * 5)
    assert finished.wait(10)
    scheduler.stop()


def test_a_cancelled_job_does_not_run_and_frees_its_place(recorder):
    scheduler = start(recorder, max_texts=3)
    recorder.gate.clear()
    submit(scheduler, ("busy", 16))
    assert recorder.began.wait(10)
    job, finished = submit(scheduler, ("x", 16), ("y", 32))
    scheduler.cancel(job)
    assert scheduler.texts == 1
    submit(scheduler, ("z", 16), ("w", 16))
    recorder.gate.set()
    assert scheduler.drain(10)
    assert recorder.ran == ["busy", "z", "w"]
    assert not finished.is_set()
    scheduler.cancel(job)
    scheduler.stop()


def test_a_job_cancelled_while_it_runs_is_not_reported(recorder):
    scheduler = start(recorder)
    recorder.gate.clear()
    job, finished = submit(scheduler, ("x", 16), ("y", 16), ("z", 32))
    assert recorder.began.wait(10)
    scheduler.cancel(job)
    recorder.gate.set()
    assert scheduler.drain(10)
    assert not finished.is_set()
    assert "z" not in recorder.ran
    scheduler.stop()


def test_a_failure_ends_its_own_job_and_no_other(recorder):
    scheduler = start(recorder)
    recorder.gate.clear()
    failing, failed = submit(scheduler, ("bad", 16), ("after", 32))
    good, finished = submit(scheduler, ("good", 16))
    recorder.gate.set()
    assert failed.wait(10)
    assert finished.wait(10)
    assert isinstance(failing.error, ValueError)
    assert good.results == ["GOOD"]
    assert scheduler.drain(10)
    assert "after" not in recorder.ran
    assert (scheduler.texts, scheduler.tokens) == (0, 0)
    scheduler.stop()


def test_a_stopped_scheduler_refuses(recorder):
    scheduler = start(recorder)
    scheduler.stop()
    with pytest.raises(RuntimeError, match="stopped"):
        submit(scheduler, ("x", 16))
