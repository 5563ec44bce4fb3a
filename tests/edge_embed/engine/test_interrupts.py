"""Interrupts at random moments: no hang, no lost graph, and the next answer is right.

Every test runs in a child process, which a watchdog ends if it hangs.
"""

import _thread
import os
import subprocess
import sys
import time

import pytest

from edge_embed.engine.parallel import for_each
from edge_embed.engine.uninterrupted import in_one_step, uninterrupted

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX signals")

PRELUDE = """
import ctypes, faulthandler, os, random, signal, sys, threading, time, warnings
faulthandler.dump_traceback_later(100, exit=True)
import numpy as np
from edge_embed import Embedder
path, count = sys.argv[1], int(sys.argv[2])
random.seed(count)
TEXTS = [" ".join(["red", "water", "stone"][: 1 + n % 3] * (1 + n % 7)) for n in range(40)]

def interrupt(signal, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)

def interrupted(work, longest=0.01):
    '''Repeats work until a signal ends it.

    The signal comes again: Python ignores what is raised inside a weak reference's callback.
    '''
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0002, longest), 5)
        while True:
            work()
    except KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)
"""

ENCODE = """
model = Embedder(path, num_threads=2, weight_cache="memory")
many, single = model.encode(TEXTS, overflow="mean"), model.encode("red")
work = [
    lambda: model.encode(TEXTS, overflow="mean"),
    lambda: model.encode("red"),
    lambda: model.encode(TEXTS[:5]),
]
for number in range(count):
    interrupted(work[number % 3])
    assert np.array_equal(model.encode("red"), single)
    if number % 10 == 0:
        assert np.array_equal(model.encode(TEXTS, overflow="mean"), many)
assert np.array_equal(model.encode(TEXTS, overflow="mean"), many)
assert threading.active_count() <= 2, threading.enumerate()
model.close()
print("ok")
"""

TWICE = """
model = Embedder(path, num_threads=2, weight_cache="memory")
many = model.encode(TEXTS, overflow="mean")
main, ready, ended, raised = threading.main_thread().ident, [], [], 0

def pester():
    while not ready:
        time.sleep(0.001)
    for _ in range(count):
        time.sleep(random.uniform(0.0002, 0.003))
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(main), ctypes.py_object(KeyboardInterrupt))
    ended.append(True)

threading.Thread(target=pester, daemon=True).start()
ready.append(True)
while not ended:
    try:
        while not ended:
            model.encode(TEXTS, overflow="mean")
            model.encode("red")
    except KeyboardInterrupt:
        raised += 1
assert raised > 1, raised  # several that come before the first is raised count as one
assert np.array_equal(model.encode(TEXTS, overflow="mean"), many)
model.close()
print("ok")
"""

LOAD = """
expected = Embedder(path, weight_cache="memory").encode("red planet")

def load():
    with Embedder(path) as model:
        model.encode(TEXTS[:3])

for number in range(count):
    interrupted(load, 0.03)
descriptors = len(os.listdir("/proc/self/fd"))
for number in range(count):
    interrupted(load, 0.03)
import gc
gc.collect()
assert len(os.listdir("/proc/self/fd")) <= descriptors + 2, os.listdir("/proc/self/fd")
with Embedder(path) as model:
    assert np.array_equal(model.encode("red planet"), expected)
print("ok")
"""

OTHERS = """
model = Embedder(path, num_threads=2, weight_cache="memory")
many = model.encode(TEXTS, overflow="mean")
wrong, stop = [], threading.Event()

def other():
    while not stop.is_set():
        if not np.array_equal(model.encode(TEXTS, overflow="mean"), many):
            wrong.append(1)

threads = [threading.Thread(target=other) for _ in range(2)]
for thread in threads:
    thread.start()
for number in range(count):
    interrupted(lambda: model.encode(TEXTS, overflow="mean"))
stop.set()
for thread in threads:
    thread.join()
assert not wrong
child = os.fork()
if not child:
    os._exit(0 if np.array_equal(model.encode(TEXTS, overflow="mean"), many) else 3)
assert os.waitpid(child, 0)[1] == 0
model.close()
print("ok")
"""


def run(code, path, count):
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELUDE + code, str(path), str(count)],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_interrupts_while_texts_are_encoded(tiny_model):
    run(ENCODE, tiny_model, 150)


def test_interrupts_that_come_faster_than_an_encode_ends(tiny_model):
    run(TWICE, tiny_model, 300)


def test_interrupts_while_a_model_is_loaded_and_closed(tiny_model):
    run(LOAD, tiny_model, 40)


def test_interrupts_beside_other_threads_and_before_a_fork(tiny_model):
    run(OTHERS, tiny_model, 100)


@pytest.mark.usefixtures("interruptible")
def test_an_action_ends_although_its_caller_is_interrupted():
    ended = []

    def interrupt_the_caller():
        _thread.interrupt_main()
        time.sleep(0.05)
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        uninterrupted(interrupt_the_caller)
    assert ended


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("several", [True, False])
def test_an_interrupt_at_the_moment_a_thread_starts(monkeypatch, begun, several):
    real, ended, starts = _thread.start_new_thread, [], []

    def start_and_interrupt(action, arguments):
        starts.append(True)
        if begun or len(starts) == 1:  # of several, the second does not begin
            real(action, arguments)
        del arguments  # as a function of C, this one would have no frame that keeps them
        if begun or not several or len(starts) == 2:
            raise KeyboardInterrupt

    def work(number=0):
        time.sleep(0.05)
        ended.append(number)

    if not begun and not several:
        starts.append(True)
    monkeypatch.setattr(_thread, "start_new_thread", start_and_interrupt)
    run_it = (lambda: for_each(2, 2, work)) if several else (lambda: uninterrupted(work))
    with pytest.raises(KeyboardInterrupt):
        run_it()
    assert several or ended == [0] * begun  # of several, none may have begun
    before = list(ended)
    time.sleep(0.1)
    assert ended == before


def test_errors_and_values_come_back():
    assert uninterrupted(lambda: uninterrupted(lambda: 5)) == 5
    with pytest.raises(ZeroDivisionError):
        uninterrupted(lambda: 1 / 0)


def test_functions_are_called_in_order():
    seen = []
    assert in_one_step(lambda: seen.append(1), lambda: seen.append(2) or 7) == [None, 7]
    assert seen == [1, 2]
