"""The queue between requests and the model: bounded, grouped by bucket, without a timer.

Worker threads take the oldest text that waits, and with it other texts of the same length bucket. A text
never waits for others to arrive: a group is what waits already. Where one text is alone, all threads work on
it; where several wait, each runs on one thread beside the others.
"""

from __future__ import annotations

import collections
import itertools
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from edge_embed.engine.uninterrupted import never_interrupted

GROUP = 8
"""The most texts of one bucket that a worker takes at a time. With more, others would wait too long."""

KEPT = 0.9
"""How much of the usual seconds of a run stays when another run was measured."""

Work = TypeVar("Work")
Result = TypeVar("Result")


class QueueFull(Exception):
    """Too much waits already.

    Args:
        texts: How many texts wait or run.
        tokens: How many tokens they have.
        seconds: How long they are expected to take.
    """

    def __init__(self, texts: int, tokens: int, seconds: float) -> None:
        super().__init__(f"{texts} texts with {tokens} tokens are waiting, for about {seconds:.2g} seconds")
        self.texts, self.tokens, self.seconds = texts, tokens, seconds


@dataclass
class Item(Generic[Work]):
    """One text of a job: what to run, its bucket and its number of tokens.

    The scheduler adds its place in the job, its place in the order, and the seconds it is expected to run.
    """

    work: Work
    bucket: int
    tokens: int
    place: int = 0
    order: int = 0
    seconds: float = 0.0


@dataclass(eq=False)
class Job(Generic[Work, Result]):
    """The texts of one request.

    Attributes:
        items: Its texts.
        done: Called once, from a worker thread, when all have run or one has failed; never after `cancel`.
        results: The results by place; complete when `done` is called without an error.
        error: What failed.
    """

    items: list[Item[Work]]
    done: Callable[[Job[Work, Result]], None]
    results: list[Result | None] = field(default_factory=list)
    error: BaseException | None = None
    left: int = 0
    cancelled: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing of it needs to run any more."""
        return self.cancelled or self.error is not None


class Scheduler(Generic[Work, Result]):
    """Runs jobs on worker threads.

    Args:
        run: Runs one text; the second argument says whether it must keep to one thread.
        workers: How many threads.
        max_texts: The most texts that wait or run.
        max_tokens: The most tokens that they have together. One job alone may have more: else it could
            never run.
        max_seconds: The longest time that they are expected to take, as measured on the texts before them,
            when another is let in. One job alone may take longer.
        observe: Called after each run with its bucket and its seconds.
    """

    def __init__(
        self,
        run: Callable[[Work, bool], Result],
        *,
        workers: int,
        max_texts: int,
        max_tokens: int,
        max_seconds: float = math.inf,
        observe: Callable[[int, float], None] = lambda bucket, seconds: None,
    ) -> None:
        self._run, self._observe = run, observe
        self._max_texts, self._max_tokens, self._max_seconds = max_texts, max_tokens, max_seconds
        self._lock = threading.Lock()
        self._work_waits = threading.Condition(self._lock)
        self._idle = threading.Condition(self._lock)
        self._queues: dict[int, collections.deque[tuple[Job[Work, Result], Item[Work]]]] = {}
        self._order = itertools.count()
        self._texts = self._tokens = 0
        self._seconds = 0.0  # of one worker, for all that waits or runs
        self._usual: dict[int, float] = {}  # seconds of a run by bucket
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"edge_embed-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def texts(self) -> int:
        """How many texts wait or run."""
        return self._texts

    @property
    def tokens(self) -> int:
        """How many tokens they have."""
        return self._tokens

    @property
    def seconds(self) -> float:
        """How long they are expected to take."""
        return self._seconds / len(self._threads) if self._texts else 0.0

    def check_room(self, texts: int) -> None:
        """Refuses texts that do not fit now, by their number alone, before any work was put into them.

        Raises:
            QueueFull: If they do not fit.
        """
        if self._texts and (
            self._texts + texts > self._max_texts
            or self._tokens >= self._max_tokens
            or self.seconds > self._max_seconds
        ):
            raise self._full()

    def submit(
        self, items: Sequence[Item[Work]], done: Callable[[Job[Work, Result]], None]
    ) -> Job[Work, Result]:
        """Puts the texts of one request into the queue.

        Args:
            items: The texts, at least one.
            done: See `Job`.

        Raises:
            QueueFull: If they do not fit. Nothing was queued then.
            RuntimeError: If the scheduler was stopped.
        """
        job: Job[Work, Result] = Job(list(items), done, [None] * len(items), left=len(items))
        tokens = sum(item.tokens for item in items)
        with self._lock:
            if self._stopped:
                raise RuntimeError("the scheduler was stopped")
            if self._texts and (
                self._texts + len(items) > self._max_texts
                or self._tokens + tokens > self._max_tokens
                or self.seconds > self._max_seconds
            ):
                raise self._full()
            self._texts += len(items)
            self._tokens += tokens
            for place, item in enumerate(items):
                item.place, item.order = place, next(self._order)
                item.seconds = self._expected(item.bucket)
                self._seconds += item.seconds
                self._queues.setdefault(item.bucket, collections.deque()).append((job, item))
            self._work_waits.notify(min(len(items), len(self._threads)))
        return job

    def cancel(self, job: Job[Work, Result]) -> None:
        """Drops what has not run yet, because nobody waits for the result any more."""
        with self._lock:
            if job.left:
                job.cancelled = True
                self._remove(job)

    def drain(self, timeout: float) -> bool:
        """Waits until nothing waits or runs. Returns whether that was so in time."""
        with self._lock:
            return self._idle.wait_for(lambda: self._texts == 0, timeout)

    def stop(self) -> None:
        """Ends the worker threads after the texts that they run. What waits is dropped."""
        with self._lock:
            self._stopped = True
            self._work_waits.notify_all()
        for thread in self._threads:
            thread.join()

    def _remove(self, job: Job[Work, Result]) -> None:
        """Takes the texts of a job out of the queue. Called with the lock held."""
        for bucket, queue in self._queues.items():
            dropped = [item for other, item in queue if other is job]
            if dropped:
                self._queues[bucket] = collections.deque(entry for entry in queue if entry[0] is not job)
                self._finished(job, dropped)

    def _take(self) -> list[tuple[Job[Work, Result], Item[Work]]]:
        """Returns the oldest text that waits and others of its bucket. Called with the lock held."""
        waiting = [queue for queue in self._queues.values() if queue]
        if not waiting:
            return []
        oldest = min(waiting, key=lambda queue: queue[0][1].order)
        # No more than this thread's share: the other threads are to have work too.
        share = -(-len(oldest) // len(self._threads))
        return [oldest.popleft() for _ in range(min(GROUP, share))]

    def _serve(self) -> None:
        never_interrupted()
        while True:
            with self._lock:
                while not self._stopped and not (group := self._take()):
                    self._work_waits.wait()
                if self._stopped:
                    return
                alone = self._texts > 1
            for job, item in group:
                self._run_one(job, item, alone)
                alone = alone or self._texts > 1

    def _run_one(self, job: Job[Work, Result], item: Item[Work], alone: bool) -> None:
        if not job.over:
            started = time.perf_counter()
            try:
                job.results[item.place] = self._run(item.work, alone)
            except BaseException as error:  # noqa: BLE001 - the request gets it; the worker must live on
                with self._lock:
                    job.error = job.error or error
                    self._remove(job)
            else:
                seconds = time.perf_counter() - started
                self._measured(item.bucket, seconds)
                self._observe(item.bucket, seconds)
        with self._lock:
            self._finished(job, [item])
            call = job.left == 0 and not job.cancelled
        if call:
            job.done(job)

    def _finished(self, job: Job[Work, Result], items: Sequence[Item[Work]]) -> None:
        """Counts texts as gone. Called with the lock held."""
        job.left -= len(items)
        self._texts -= len(items)
        for item in items:
            self._tokens -= item.tokens
            self._seconds -= item.seconds
        if self._texts == 0:
            self._seconds = 0.0  # sums of floats do not come back to zero by themselves
            self._idle.notify_all()

    def _full(self) -> QueueFull:
        return QueueFull(self._texts, self._tokens, self.seconds)

    def _expected(self, bucket: int) -> float:
        """Returns the seconds that a text of a bucket will run: by the nearest bucket if it is the first."""
        if bucket in self._usual or not self._usual:
            return self._usual.get(bucket, 0.0)
        nearest = min(self._usual, key=lambda other: abs(other - bucket))
        return self._usual[nearest] * bucket / nearest

    def _measured(self, bucket: int, seconds: float) -> None:
        """Takes a run into the usual seconds of its bucket."""
        self._usual[bucket] = seconds + KEPT * (self._usual.get(bucket, seconds) - seconds)
