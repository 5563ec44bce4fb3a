"""Clients of an HTTP server over raw sockets, many in one thread, so that little else is measured."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

HOST = "127.0.0.1"

CHUNK = 1 << 16

SECONDS = 60.0
"""How long a client waits."""


@dataclass(frozen=True)
class Reply:
    """An answer: its status, its body, and the seconds from sending the request."""

    status: int
    body: bytes
    seconds: float


class Connection:
    """One connection to a server on this machine.

    Args:
        port: The server's port.
        wait: Whether to connect now, and to wait for it. Otherwise `open` begins to connect.

    Attributes:
        over: Whether it was never open, or the server ended it with its last answer, as HTTP/1.0 does.
    """

    def __init__(self, port: int, *, wait: bool = True) -> None:
        self._port = port
        self._buffer = self._waiting = b""
        self.started = 0.0
        self.over = not wait
        self.connected = wait
        if wait:
            self.socket = socket.create_connection((HOST, port), timeout=SECONDS)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            self.socket = socket.socket()

    def open(self) -> None:
        """Begins to connect. When the socket can be written to, `finish` is to be called."""
        self.socket.close()
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex((HOST, self._port))
        self.over = self.connected = False

    def finish(self) -> None:
        """Ends what `open` began, and sends the request that waits for it.

        Raises:
            OSError: If the server refused.
        """
        if error := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error))
        self.socket.settimeout(SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connected = True
        self.socket.sendall(self._waiting)

    def send(self, request: bytes) -> None:
        """Sends a request, as soon as there is a connection."""
        self._buffer, self.started = b"", time.perf_counter()
        if self.connected:
            self.socket.sendall(request)
        else:
            self._waiting = request

    def receive(self) -> Reply | None:
        """Reads what has arrived and returns the answer once it is complete.

        Raises:
            ConnectionError: If the server has closed the connection.
        """
        data = self.socket.recv(CHUNK)
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        length = _content_length(head)
        if not data:
            if not found or length is not None:
                raise ConnectionError("the server closed the connection")
            self.over, length = True, len(body)  # the answer ends with the connection
        if not found or length is None or len(body) < length:
            return None
        self.over = self.over or head.startswith(b"HTTP/1.0") or b"connection: close" in head.lower()
        return Reply(int(head[9:12]), body[:length], time.perf_counter() - self.started)

    def close(self) -> None:
        """Closes the connection, whether an answer is under way or not."""
        self.socket.close()


@dataclass
class Turn:
    """What clients saw for a while.

    Attributes:
        seconds: How long.
        latencies: Seconds of each request that was answered with 200.
        refused: Seconds of each request that was answered with 429.
        statuses: How many answers had each status.
        generator_seconds: Processor time of this process, which plays all clients.
        server_seconds: Processor time of the server.
        unsent: Requests that were due and could not be sent because every connection was in use.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    generator_seconds: float = 0.0
    server_seconds: float = 0.0
    unsent: int = 0

    def add(self, reply: Reply) -> None:
        """Counts an answer."""
        self.statuses[reply.status] = self.statuses.get(reply.status, 0) + 1
        if reply.status == 200:
            self.latencies.append(reply.seconds)
        elif reply.status == 429:
            self.refused.append(reply.seconds)


def post(path: str, body: bytes, *, keep: bool = True) -> bytes:
    """Returns a request; `keep` says whether the connection stays open."""
    head = f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\n"
    head += f"content-length: {len(body)}\r\nconnection: {'keep-alive' if keep else 'close'}\r\n\r\n"
    return head.encode() + body


def closed_loop(
    port: int, request: bytes, *, clients: int, seconds: float, check: Callable[[Reply], None]
) -> Turn:
    """Plays clients that each send a request, wait for its answer, and send the next.

    Args:
        port: The server's port.
        request: What they send.
        clients: How many.
        seconds: For how long; requests that are under way then are waited for and not counted.
        check: Called with each answer; raises if it is wrong.
    """
    turn = Turn()
    with _Crowd(port, clients) as crowd:
        started, cpu = time.perf_counter(), time.process_time()
        for connection in crowd.connections:
            crowd.send(connection, request)
        over = False
        waiting = clients
        while waiting:
            for connection, reply in crowd.answers():
                check(reply)
                if over:
                    waiting -= 1
                    continue
                turn.add(reply)
                if time.perf_counter() - started >= seconds:
                    over = True
                    turn.seconds = time.perf_counter() - started
                    turn.generator_seconds = time.process_time() - cpu
                    waiting -= 1
                else:
                    crowd.send(connection, request)
    return turn


def open_loop(
    port: int,
    request: bytes,
    *,
    rate: float,
    seconds: float,
    connections: int,
    check: Callable[[Reply], None],
) -> Turn:
    """Sends requests at a fixed rate, whether earlier ones were answered or not.

    Args:
        port: The server's port.
        request: What is sent.
        rate: Requests a second.
        seconds: For how long.
        connections: The most requests under way.
        check: As for `closed_loop`.
    """
    turn = Turn()
    with _Crowd(port, connections) as crowd:
        idle = deque(crowd.connections)
        started, cpu, due = time.perf_counter(), time.process_time(), 0
        while True:
            now = time.perf_counter() - started
            if now >= seconds:
                break
            while due < now * rate:
                due += 1
                if idle:
                    crowd.send(idle.popleft(), request)
                else:
                    turn.unsent += 1
            for connection, reply in crowd.answers(0.001):
                check(reply)
                turn.add(reply)
                idle.append(connection)
        turn.seconds = time.perf_counter() - started
        turn.generator_seconds = time.process_time() - cpu
        while len(idle) < connections:
            for connection, reply in crowd.answers():
                check(reply)
                turn.add(reply)
                idle.append(connection)
    return turn


class _Crowd:
    """Connections, and the answers on them as they arrive.

    Each is opened with its first request, and without waiting: a server that answers one connection after the
    other would otherwise wait for requests that are not sent before it answers.
    """

    def __init__(self, port: int, count: int) -> None:
        self.connections = [Connection(port, wait=False) for _ in range(count)]
        self._selector = selectors.DefaultSelector()

    def send(self, connection: Connection, request: bytes) -> None:
        """Sends a request, over a new connection if the last one is over."""
        if connection.over:
            connection.open()
            self._selector.register(connection.socket, selectors.EVENT_WRITE, connection)
        connection.send(request)

    def answers(self, timeout: float = SECONDS) -> Iterator[tuple[Connection, Reply]]:
        """Yields the complete answers that have arrived; waits for data at most `timeout` seconds.

        Raises:
            TimeoutError: If nothing arrived for a minute.
        """
        events = self._selector.select(timeout)
        if not events and timeout >= SECONDS:
            raise TimeoutError(f"no answer within {SECONDS:g} seconds")
        for key, _ in events:
            connection: Connection = key.data
            if not connection.connected:
                connection.finish()
                self._selector.modify(connection.socket, selectors.EVENT_READ, connection)
                continue
            reply = connection.receive()
            if reply is None:
                continue
            if connection.over:
                self._selector.unregister(connection.socket)
                connection.close()
            yield connection, reply

    def __enter__(self) -> _Crowd:
        return self

    def __exit__(self, *exception: object) -> None:
        self._selector.close()
        for connection in self.connections:
            connection.close()


def _content_length(head: bytes) -> int | None:
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
    return None
