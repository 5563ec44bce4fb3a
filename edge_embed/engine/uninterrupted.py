"""Work that no interrupt can break off in the middle.

Python delivers Ctrl-C, and every other exception that comes from outside, between any two steps of the
interpreter. Code that holds a lock or a graph at that moment may lose it. Two ways avoid this:

- `uninterrupted` and `Job` run an action in a thread of its own. Signals reach only the main thread, so the
  action always runs to its end. The caller waits at a lock that belongs to this one job; an interrupt there
  loses nothing.
- `in_one_step` calls functions of C one after the other, from C. The interpreter takes no step between them.

Neither `concurrent.futures` nor `threading.Thread.start` will do: both wait at a `threading.Condition`, which
is written in Python and stays locked if it is interrupted at the wrong moment.
"""

from __future__ import annotations

import _thread
import operator
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from edge_embed.warn import Source, hold_warnings, warn_of

T = TypeVar("T")

INTERVAL = 0.1
"""The longest wait in seconds before a waiting caller looks up."""

_current = threading.local()
_call = operator.methodcaller("__call__")


class _Owner:
    """What a thread alone refers to, so that its death shows."""


class Job(Generic[T]):
    """An action that runs in a thread of its own.

    `start` begins it. Whoever is interrupted in or after `start` calls `finish`: whether the thread has begun
    by then cannot be told from outside.

    Args:
        action: What to do.
    """

    def __init__(self, action: Callable[[], T]) -> None:
        self._action: Callable[[], T] | None = action
        self._value: T | None = None
        self._error: BaseException | None = None
        self._warnings: list[Source] = []
        self._finished = False
        self._end = _thread.allocate_lock()
        self._end.acquire()
        self._unstarted = [_Owner()]
        self._owner = weakref.ref(self._unstarted[0])

    def start(self) -> None:
        """Begins the action.

        Raises:
            RuntimeError: If the system gives no more threads.
        """
        # The owner goes from the list to the thread without a variable: a traceback that ends here must not
        # keep the owner of a thread that never began.
        try:
            _thread.start_new_thread(self._run, (self._unstarted.pop(),))
        except RuntimeError:
            self._finished = True
            raise

    def finish(self) -> None:
        """Waits until the action has ended. An action that was not begun never will be."""
        self._unstarted.clear()
        while not self.wait():
            pass

    def wait(self) -> bool:
        """Waits for the end of the action, at most a tenth of a second; returns whether it has ended."""
        if self._finished or self._end.acquire(timeout=INTERVAL):
            return True
        if self._owner() is None and not self._finished:
            # The thread did not begin: its start or its first step was interrupted. While a thread starts
            # it bears the number of the thread that starts it, and an exception that
            # `PyThreadState_SetAsyncExc` sends there ends it; that exception was for the caller.
            self._error, self._finished = KeyboardInterrupt(), True
        return self._finished

    def result(self) -> T:
        """Returns what the action returned, or raises its error. Its warnings appear here.

        Call it once, after the action has ended.
        """
        for source in self._warnings:
            warn_of(source)
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error  # the error, its traceback and this frame would keep each other alive
        return cast("T", self._value)

    def _hold(self, source: Source) -> bool:
        self._warnings.append(source)
        return True

    def _run(self, owner: _Owner) -> None:
        _current.uninterrupted = True
        action, self._action = cast("Callable[[], T]", self._action), None
        try:
            with hold_warnings(self._hold):
                self._value = action()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._error = error
        finally:
            del action
            self._finished = True
            self._end.release()


def uninterrupted(action: Callable[[], T]) -> T:
    """Runs an action to its end, whatever interrupts the caller, and returns its result.

    A caller that is interrupted still waits until the action has ended, so that nothing goes on behind its
    back. A second interrupt ends the wait as well.

    Args:
        action: What to do. It runs in another thread, unless the caller's is one of these threads already.
    """
    if getattr(_current, "uninterrupted", False):
        return action()
    job = Job(action)
    try:
        try:
            job.start()
        except RuntimeError:  # Python is shutting down, or the system gives no more threads
            return action()
        while not job.wait():
            pass
    except BaseException:
        job.finish()
        raise
    return job.result()


def never_interrupted() -> None:
    """Says that nothing interrupts the calling thread: from now on `uninterrupted` runs actions in it.

    For threads other than the main one that run many actions. A thread for each action would take about as
    long as a short text takes the model.
    """
    _current.uninterrupted = True


def in_one_step(*functions: Callable[[], Any]) -> list[Any]:
    """Calls functions without arguments in this order, so that no interrupt comes between two of them.

    An exception that a function raises itself ends the sequence.

    Args:
        functions: Functions implemented in C, or `functools.partial` of them. A function written in Python
            would let interrupts in.

    Returns:
        What each of them returned.
    """
    return list(map(_call, functions))
