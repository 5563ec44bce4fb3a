"""The model that a server shares between its requests: texts in, vectors out, through one bounded queue."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import math
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_embed.errors import InputError, TextTooLongError
from edge_embed.model_file.manifest import Vector
from edge_embed.serve.errors import HttpError, invalid
from edge_embed.serve.requests import DOCUMENT, QUERY, EmbeddingRequest
from edge_embed.serve.scheduler import Item, Job, QueueFull, Scheduler
from edge_embed.text.windows import Plan

if TYPE_CHECKING:
    from edge_embed import Embedder
    from edge_embed.serve.options import Options

INLINE_CHARACTERS = 4000
"""Requests with more text are tokenized in a thread, so that the event loop stays free for others. For less
text, switching threads takes longer than tokenizing."""

PATIENCE = 0.05
"""Seconds of waiting after which it is looked whether a client has left. Looking costs about a tenth of the
other work on a request, so requests that are answered sooner go without."""


@dataclass(frozen=True)
class Embeddings:
    """The answer to a request.

    Attributes:
        vectors: One for each text.
        tokens: How many tokens the model read, over all texts, special tokens included.
        truncated: Which texts were cut, by index.
    """

    vectors: list[Vector]
    tokens: int
    truncated: list[int]


class ServedModel:
    """An `Embedder` behind a queue. Made in the event loop's thread.

    Args:
        embedder: The model. The server owns it from now on.
        options: The queue's limits.
        observe: Called after each run with its bucket and its seconds.
    """

    def __init__(self, embedder: Embedder, options: Options, observe: Callable[[int, float], None]) -> None:
        self.embedder = embedder
        self.name = embedder.manifest.name
        self._workers = embedder.concurrency
        self.scheduler: Scheduler[Plan, Vector] = Scheduler(
            embedder.run_plan,
            workers=self._workers,
            max_texts=options.queue_texts,
            max_tokens=options.queue_tokens,
            max_seconds=options.queue_seconds,
            observe=observe,
        )
        self._tokenizing = ThreadPoolExecutor(1, "edge_embed-tokenize")
        self._finished: collections.deque[asyncio.Future[bool]] = collections.deque()
        self._waking = False

    def warm_up(self) -> None:
        """Compiles every bucket, in each way that a text may run, so that no request waits for it."""
        manifest = self.embedder.manifest
        token = manifest.self_check.tokens[0]
        for bucket in manifest.buckets:
            plan = Plan([[token] * bucket], [1], bucket)
            self.embedder.run_plan(plan)
            # As many at a time as there are workers: each then has its own graph of this bucket.
            with ThreadPoolExecutor(self._workers) as pool:
                barrier = threading.Barrier(self._workers)

                def run(_: int, plan: Plan = plan, barrier: threading.Barrier = barrier) -> None:
                    barrier.wait()
                    self.embedder.run_plan(plan, alone=True)

                list(pool.map(run, range(self._workers)))

    def admit(self, texts: int) -> None:
        """Refuses texts for which the queue has no room, by their number alone. This costs next to nothing.

        Raises:
            HttpError: If they have no chance now.
        """
        try:
            self.scheduler.check_room(texts)
        except QueueFull as error:
            raise _busy(error) from error

    async def embed(
        self, request: EmbeddingRequest, left: Callable[[], Awaitable[None]] | None = None
    ) -> Embeddings:
        """Embeds the texts of a request.

        Args:
            request: The request.
            left: Returns when the client has left; its texts are dropped then.

        Raises:
            HttpError: If a text is too long, an option does not fit the model, or the queue is full.
            ClientLeft: If the client left.
        """
        embedder, manifest = self.embedder, self.embedder.manifest
        if request.normalize is False and manifest.normalize:
            raise invalid("this model's vectors always have unit length; leave normalize out", "normalize")
        if request.dimensions is not None and not 1 <= request.dimensions <= manifest.dimension:
            trained = ", ".join(map(str, manifest.matryoshka_dimensions))
            raise invalid(
                f"dimensions is {request.dimensions}; expected 1 to {manifest.dimension} "
                f"(the model was trained for {trained})",
                "dimensions",
            )
        self.admit(len(request.texts))
        if sum(map(len, request.texts)) <= INLINE_CHARACTERS:
            plans = self._plan(request)
        else:
            plans = await asyncio.get_running_loop().run_in_executor(self._tokenizing, self._plan, request)
        vectors = await self._run(plans, left)
        # A model that normalizes needs nothing more, and must give the same bits as `encode`.
        normalize = None if manifest.normalize else request.normalize
        return Embeddings(
            [embedder.finish(vector, request.dimensions, normalize) for vector in vectors],
            sum(len(window) for plan in plans for window in plan.windows),
            [index for index, plan in enumerate(plans) if plan.truncated],
        )

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the token ids of texts, special tokens included."""
        return self.embedder.tokenize(list(texts))

    def close(self) -> None:
        """Stops the worker threads and frees the model."""
        self.scheduler.stop()
        self._tokenizing.shutdown(cancel_futures=True)
        self.embedder.close()

    def _plan(self, request: EmbeddingRequest) -> list[Plan]:
        overflow = "truncate" if request.truncate else "error"
        names = {QUERY: self.embedder.query_prompt_name, DOCUMENT: self.embedder.document_prompt_name}
        name = request.prompt_name if request.role is None else names[request.role]
        try:
            return self.embedder.plan(request.texts, prompt_name=name, overflow=overflow)
        except TextTooLongError as error:
            raise HttpError(
                422,
                f"{error.what}: {error.got}, {error.expected}. Cut the text, or send truncate=true",
                code="text_too_long",
                param="truncate",
            ) from error
        except InputError as error:
            raise invalid(str(error.what), "input") from error

    async def _run(self, plans: Sequence[Plan], left: Callable[[], Awaitable[None]] | None) -> list[Vector]:
        loop = asyncio.get_running_loop()
        finished: asyncio.Future[bool] = loop.create_future()  # False: the client left

        def done(job: Job[Plan, Vector]) -> None:
            self._finished.append(finished)
            if not self._waking:  # once for all that end before the loop looks
                self._waking = True
                with contextlib.suppress(RuntimeError):  # the loop was closed during the last run
                    loop.call_soon_threadsafe(self._wake)

        buckets = self.embedder.manifest.buckets
        items = []
        for plan in plans:
            longest = max(map(len, plan.windows))
            bucket = next(length for length in buckets if length >= longest)
            items.append(Item(plan, bucket, sum(map(len, plan.windows))))
        try:
            job = self.scheduler.submit(items, done)
        except QueueFull as error:
            raise _busy(error) from error
        except RuntimeError as error:
            raise HttpError(503, "the server is shutting down", code="shutting_down") from error
        watch = _Watch(loop, left, finished) if left is not None else None
        try:
            if not await finished:
                raise ClientLeft
        finally:
            if watch is not None:
                watch.end()
            if job.left:
                self.scheduler.cancel(job)
        if job.error is not None:
            raise job.error
        return [vector for vector in job.results if vector is not None]

    def _wake(self) -> None:
        """Tells the requests whose texts have run."""
        self._waking = False  # first: what ends from now on wakes the loop again
        while self._finished:
            finished = self._finished.popleft()
            if not finished.done():
                finished.set_result(True)


class _Watch:
    """Looks whether a client has left, once its request has waited for a while."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        left: Callable[[], Awaitable[None]],
        finished: asyncio.Future[bool],
    ) -> None:
        self._left, self._finished = left, finished
        self._task: asyncio.Task[None] | None = None
        self._timer = loop.call_later(PATIENCE, self._begin)

    def end(self) -> None:
        """Ends the looking."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        self._task = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        await self._left()
        if not self._finished.done():
            self._finished.set_result(False)


def _busy(error: QueueFull) -> HttpError:
    return HttpError(
        429,
        f"the server is busy: {error}. Try again later, or send fewer texts at a time",
        code="queue_full",
        headers={"retry-after": str(max(1, math.ceil(error.seconds)))},
    )


class ClientLeft(Exception):
    """The client closed its connection before the answer."""
