"""Many texts at once: every one of them, in its place, and an end to it after an error."""

import _thread
import contextlib
import gc
import threading
import time
import weakref

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed.engine.parallel import MANY, for_each
from edge_embed.errors import InputError, TextTooLongError, TruncationWarning


@pytest.mark.parametrize("workers", [1, 2, 5, 40])
def test_each_index_once(workers):
    seen = []
    for_each(30, workers, seen.append)
    assert sorted(seen) == list(range(30))


def test_one_worker_keeps_the_order_and_the_thread():
    seen = []
    for_each(5, 1, lambda index: seen.append((index, threading.current_thread())))
    assert seen == [(index, threading.current_thread()) for index in range(5)]


def test_several_at_a_time():
    meeting = threading.Barrier(3)
    for_each(9, 3, lambda index: meeting.wait(timeout=30))


@pytest.mark.parametrize("error", [ValueError("seven"), KeyboardInterrupt()])
def test_an_error_ends_it_and_is_raised(error):
    begun, before = [], threading.active_count()

    def work(index):
        begun.append(index)
        if index == 7:
            raise error

    with pytest.raises(type(error)):
        for_each(10_000, 3, work)
    assert len(begun) < 10_000
    assert threading.active_count() == before


def test_an_error_keeps_nothing_alive():
    class Thing:
        pass

    def fail():
        thing = Thing()
        things.add(thing)

        def work(index):
            if index == 3:
                raise ValueError(str(thing))

        for_each(8, 2, work)

    things = weakref.WeakSet()
    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            fail()
        assert not things
    finally:
        gc.enable()


def test_a_system_that_gives_no_more_threads(monkeypatch):
    start, calls = _thread.start_new_thread, []

    def refuse(function, arguments):
        calls.append(function)
        if len(calls) == 2:
            raise RuntimeError("can't start new thread")
        return start(lambda: function(*arguments), ())

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    with pytest.raises(RuntimeError, match="start new thread"):
        for_each(50, 4, lambda index: None)
    assert len(calls) == 2


def test_progress_is_reported_in_the_callers_thread():
    reports = []

    def report(number):
        reports.append((number, threading.current_thread()))

    for workers in (1, 3):
        reports.clear()
        for_each(8, workers, lambda index: time.sleep(0.06), report)
        assert sum(number for number, _ in reports) == 8
        assert {thread for _, thread in reports} == {threading.current_thread()}
        assert len(reports) > 1


TEXTS = [" ".join(["red", "water", "stone"][: 1 + n % 3] * (1 + n % 7)) for n in range(3 * MANY)]


@pytest.fixture(scope="module")
def single(path):
    with Embedder(path, num_threads=1, weight_cache="memory") as model:
        yield np.stack([model.encode(text, overflow="mean") for text in TEXTS])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_many_texts_give_the_vectors_of_single_ones(path, single, threads):
    with Embedder(path, num_threads=threads, weight_cache="memory") as model:
        assert np.array_equal(model.encode(TEXTS, overflow="mean"), single)
        assert np.array_equal(model.encode(TEXTS[: MANY - 1], overflow="mean"), single[: MANY - 1])


def test_warnings_count_all_texts_and_come_once(words):
    texts = ["red " * 60, "red"] * MANY
    with pytest.warns(TruncationWarning, match=f"{MANY} of {2 * MANY} texts") as caught:
        words.encode(texts)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_an_error_names_its_text(words):
    texts = ["red"] * MANY + ["red " * 60]
    with pytest.raises(TextTooLongError, match=str(MANY)):
        words.encode(texts, overflow="error")
    with pytest.raises(InputError):
        words.encode([*texts[:-1], 5])


def test_several_threads_with_many_texts_each(path, single):
    with Embedder(path, num_threads=2, weight_cache="memory") as model:
        rows = {}
        threads = [
            threading.Thread(target=lambda i=i: rows.update({i: model.encode(TEXTS, overflow="mean")}))
            for i in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(rows) == 3
    assert all(np.array_equal(row, single) for row in rows.values())
