"""Many texts at once: each on one thread, as many at a time as there are threads.

Splitting one text's products between threads leaves them waiting for each other, the more the shorter it is.
Texts that do not know of each other need not wait. Vectors are the same bit for bit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

MANY = 16
"""So many texts repay the graphs that each thread needs of its own, a few milliseconds for each bucket."""

SHORT = 256
"""Up to so many tokens it is faster. Beyond, one text keeps all threads busy, and memory counts."""


def for_each(count: int, workers: int, work: Callable[[int], None]) -> None:
    """Calls ``work(0)`` to ``work(count - 1)`` in this order, several at a time.

    After an error none is begun that was not; when those that were have ended, the error that came first is
    raised.

    Args:
        count: How many calls.
        workers: How many at a time. The caller's own thread is one of them.
        work: What to call.
    """
    indices, lock = iter(range(count)), threading.Lock()
    errors: list[BaseException] = []
    stopped = threading.Event()

    def run() -> None:
        while not stopped.is_set():
            with lock:
                index = next(indices, None)
            if index is None:
                return
            try:
                work(index)
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                errors.append(error)
                stopped.set()

    threads: list[threading.Thread] = []
    try:
        for _ in range(min(workers, count) - 1):
            threads.append(threading.Thread(target=run, daemon=True))
            threads[-1].start()
        run()
    except BaseException:  # an interrupt between two texts, or a system that gives no more threads
        stopped.set()
        raise
    finally:
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    if errors:
        try:
            raise errors[0]
        finally:
            errors.clear()  # or error, frame and list would keep each other, and all the vectors, alive
