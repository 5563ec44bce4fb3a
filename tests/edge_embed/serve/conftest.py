"""A server over the tiny model, in a process thread of its own, and a plain client for it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from edge_embed import Embedder
from edge_embed.serve.app import Server, create_app
from edge_embed.serve.options import Options
from edge_embed.serve.process import bind, config


class Client:
    """Sends requests to a server, one connection each unless it is kept."""

    def __init__(self, port: int) -> None:
        self.port = port

    def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Returns status, parsed body and headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, content, headers or {})
            response = connection.getresponse()
            data = response.read()
            kind = response.headers.get_content_type()
            value = json.loads(data) if kind == "application/json" else data.decode()
            return response.status, value, {k.lower(): v for k, v in response.headers.items()}
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Sends a POST."""
        return self.send("POST", path, body, headers)

    def get(self, path: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Sends a GET."""
        return self.send("GET", path, None, headers)


class Held(Embedder):
    """A model that waits until it is let go."""

    let_go = threading.Event()

    def run_plan(self, work: Any, alone: bool = False) -> Any:
        """Waits, then runs."""
        self.let_go.wait(20)
        return super().run_plan(work, alone)


def post_head(path: str, length: int) -> bytes:
    """Returns the head of a POST."""
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n".encode()


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


@contextmanager
def serving(server: Server, *, wait: bool = True) -> Iterator[Client]:
    """Serves an application on a free port of the loopback interface while the block runs."""
    settings = config(server)
    socket = bind(settings)
    running = uvicorn.Server(settings)
    thread = threading.Thread(target=running.run, args=([socket],))
    thread.start()
    client = Client(socket.getsockname()[1])
    try:
        while not running.started:
            time.sleep(0.01)
        while wait and client.get("/health")[0] != 200:
            time.sleep(0.01)
        yield client
    finally:
        running.should_exit = True
        thread.join()


@pytest.fixture
def serve(tiny_model: Path) -> Iterator[Callable[..., Client]]:
    """Starts a server with some options; it ends with the test."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(**options: Any) -> Client:
            embedder = Embedder(tiny_model, weight_cache="memory", num_threads=2)
            return stack.enter_context(serving(create_app(embedder, Options(**options))))

        yield start


@pytest.fixture(scope="module")
def module_embedder(tiny_model: Path) -> Embedder:
    """The model itself, for the truth."""
    return Embedder(tiny_model, weight_cache="memory", num_threads=1)


@pytest.fixture
def held(tiny_model: Path) -> Iterator[tuple[Server, Client]]:
    """A server of three texts over a model that is held."""
    Held.let_go.set()
    server = create_app(
        Held(tiny_model, weight_cache="memory", num_threads=1), Options(queue_texts=3, drain_timeout=20)
    )
    with serving(server) as client:
        Held.let_go.clear()
        yield server, client
        Held.let_go.set()
