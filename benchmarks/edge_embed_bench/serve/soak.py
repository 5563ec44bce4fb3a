"""Many requests of every kind, good and bad, with the server's memory watched and every vector compared."""

from __future__ import annotations

import base64
import json
import random
import selectors
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edge_embed_bench.serve.clients import Connection, Reply, post

SETTLED = 1000
"""Requests after which the server's memory must stay as it is: by then every bucket was used."""

SAMPLED = 100
"""Requests between two readings of the server's memory."""

LANES = 16
"""Requests under way."""

PATH = "/v1/embeddings"

BAD: tuple[tuple[str, bytes, int], ...] = (
    (PATH, b"{", 400),
    (PATH, b"[]", 400),
    (PATH, b'{"input": []}', 400),
    (PATH, b'{"input": [1, 2, 3]}', 400),
    (PATH, b'{"input": "a", "dimensions": 0}', 400),
    (PATH, b'{"input": "a", "model": "another"}', 404),
    ("/nothing", b"{}", 404),
    ("/embed", b'{"inputs": 7}', 400),
)
"""Requests that a server must refuse: path, body, and the status of the refusal."""


@dataclass(frozen=True)
class Shot:
    """One request of the soak.

    Attributes:
        request: Its bytes.
        status: The status that it must get.
        texts: Which texts it holds.
        short: Whether it has a connection of its own.
        abandoned: Whether the client leaves before the answer.
    """

    request: bytes
    status: int
    texts: tuple[int, ...] = ()
    short: bool = False
    abandoned: bool = False


@dataclass
class Soak:
    """What became of the requests.

    Attributes:
        requests: How many were sent.
        vectors: How many vectors were compared.
        wrong_vectors: How many were not the model's own, bit for bit.
        wrong_statuses: How many answers had another status than they must.
        lost: Requests without an answer.
        short: Connections for one request.
        abandoned: Requests whose client left.
        bad: Requests that had to be refused.
        seconds: How long it took.
        memory: The server's resident memory in bytes, every hundred requests.
    """

    requests: int = 0
    vectors: int = 0
    wrong_vectors: int = 0
    wrong_statuses: int = 0
    lost: int = 0
    short: int = 0
    abandoned: int = 0
    bad: int = 0
    seconds: float = 0.0
    memory: list[int] = field(default_factory=list)

    @property
    def growth(self) -> int | None:
        """How far the memory rose above its highest value within the first thousand requests.

        None if there were no more than a thousand.
        """
        first = SETTLED // SAMPLED
        if len(self.memory) <= first:
            return None
        return max(self.memory[first:]) - max(self.memory[:first])


def shots(texts: Sequence[str], *, requests: int, seed: int = 0) -> list[Shot]:
    """Returns the requests: 20 % bad, 5 % on connections of their own, 1 % abandoned, all in random order.

    The first ones hold every text, alone: so every bucket is used before the memory is compared.
    """
    generator = random.Random(seed)
    found = [_good((index,), texts, short=False) for index in range(min(len(texts), SETTLED // 2))]
    rest: list[Shot] = []
    for number in range(requests - len(found)):
        short = number < requests // 20
        if number % 5 == 0:
            path, body, status = BAD[number // 5 % len(BAD)]
            rest.append(Shot(post(path, body, keep=not short), status, short=short))
        else:
            count = generator.choice((1, 1, 1, 1, 2))
            chosen = tuple(generator.randrange(len(texts)) for _ in range(count))
            rest.append(_good(chosen, texts, short=short))
    generator.shuffle(rest)
    good = [place for place, shot in enumerate(rest) if shot.status == 200 and not shot.short]
    for place in generator.sample(good, min(len(good), requests // 100)):
        rest[place] = Shot(rest[place].request, 200, rest[place].texts, short=True, abandoned=True)
    return found + rest


def _good(chosen: tuple[int, ...], texts: Sequence[str], *, short: bool) -> Shot:
    body = {"input": [texts[index] for index in chosen], "encoding_format": "base64"}
    return Shot(post(PATH, json.dumps(body).encode(), keep=not short), 200, chosen, short)


def soak(port: int, plan: Sequence[Shot], truth: npt.NDArray[np.float32], memory: Callable[[], int]) -> Soak:
    """Sends all requests and checks all answers.

    Args:
        port: The server's port.
        plan: The requests.
        truth: The vectors of the texts.
        memory: Reads the server's resident memory.
    """
    result, started, left = Soak(), time.perf_counter(), iter(plan)
    with selectors.DefaultSelector() as selector:
        busy = sum(_next(selector, left, Connection(port), result, memory, port) for _ in range(LANES))
        while busy:
            events = selector.select(60)
            if not events:
                result.lost += busy
                break
            for key, _ in events:
                connection, shot = key.data
                lost = False
                try:
                    reply = connection.receive()
                except ConnectionError:
                    reply, lost = None, True
                    result.lost += 1
                if reply is not None:
                    _check(reply, shot, truth, result)
                elif not lost:
                    continue
                selector.unregister(connection.socket)
                if shot.short or lost:
                    connection.close()
                    connection = Connection(port)
                busy += _next(selector, left, connection, result, memory, port) - 1
    result.memory.append(memory())
    result.seconds = time.perf_counter() - started
    return result


def _next(
    selector: selectors.BaseSelector,
    left: Iterator[Shot],
    lane: Connection,
    result: Soak,
    memory: Callable[[], int],
    port: int,
) -> int:
    """Sends the next request on a lane; returns 0 if there is none."""
    for shot in left:
        result.requests += 1
        result.short += shot.short and not shot.abandoned
        result.bad += shot.status != 200
        if result.requests % SAMPLED == 0:
            result.memory.append(memory())
        if shot.short:
            lane.close()
            lane = Connection(port)
        lane.send(shot.request)
        if shot.abandoned:
            result.abandoned += 1
            lane.close()
            lane = Connection(port)
            continue
        selector.register(lane.socket, selectors.EVENT_READ, (lane, shot))
        return 1
    lane.close()
    return 0


def _check(reply: Reply, shot: Shot, truth: npt.NDArray[np.float32], result: Soak) -> None:
    if reply.status != shot.status:
        result.wrong_statuses += 1
        return
    if shot.status != 200:
        return
    for index, vector in zip(shot.texts, vectors_of(reply.body), strict=True):
        result.vectors += 1
        result.wrong_vectors += vector.tobytes() != truth[index].tobytes()


def vectors_of(body: bytes) -> list[npt.NDArray[np.float32]]:
    """Returns the vectors of an answer, in base64 or as numbers."""
    found = [item["embedding"] for item in json.loads(body)["data"]]
    return [
        np.frombuffer(base64.b64decode(each), "<f4") if isinstance(each, str) else np.array(each, "<f4")
        for each in found
    ]
