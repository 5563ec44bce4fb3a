"""Many texts at once: each on one thread, as many at a time as there are threads.

Splitting one text's products between threads leaves them waiting for each other, the more the shorter it is.
Independent texts need not wait. Vectors are the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_embed.engine.uninterrupted import Job

MANY = 16
"""From this many texts on, side by side pays for the graphs that each thread needs of its own: a few
milliseconds for each bucket."""

SHORT = 256
"""Up to this many tokens a text is faster on one thread, beside others. Longer ones keep all threads busy."""


def for_each(
    count: int,
    workers: int,
    work: Callable[[int], None],
    report: Callable[[int], object] = lambda number: None,
) -> None:
    """Calls ``work(0)`` to ``work(count - 1)`` in this order, several at a time.

    With several workers all calls run in threads that no signal reaches, and the caller only waits. After an
    error or an interrupt no further call begins; when those that run have ended, the first error is raised.

    Args:
        count: How many calls.
        workers: How many at a time. With one, the calls run in the caller's thread.
        work: What to call.
        report: Called in the caller's thread with the number of calls that ended since the last report.
    """
    if min(workers, count) <= 1:
        for index in range(count):
            work(index)
            report(1)
        return
    indices = iter(range(count))
    ended: list[int] = []
    errors: list[BaseException] = []
    stopped: list[bool] = []

    def run() -> None:
        for index in indices:
            if stopped:
                return
            try:
                work(index)
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                errors.append(error)
                stopped.append(True)
            else:
                ended.append(index)

    jobs = [Job(run) for _ in range(min(workers, count))]
    reported = 0
    try:
        for job in jobs:
            job.start()
        for job in jobs:
            while not job.wait():
                reported += _report(report, len(ended) - reported)
            job.result()
        _report(report, len(ended) - reported)
    except BaseException:  # an interrupt, or a system that gives no more threads
        stopped.append(True)
        for job in jobs:
            job.finish()
        raise
    if errors:
        try:
            raise errors[0]
        finally:
            errors.clear()  # or error, frame and list would keep each other, and all the vectors, alive


def _report(report: Callable[[int], object], number: int) -> int:
    if number:
        report(number)
    return number
