"""Other servers, started by a command that the user gives, each in an environment of its own."""

from __future__ import annotations

import http.client
import json
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_embed.errors import InputError
from edge_embed_bench.errors import WorkerError, one_line
from edge_embed_bench.serve.clients import HOST, Reply, Turn, closed_loop, post
from edge_embed_bench.serve.soak import PATH, vectors_of

LEAST_COSINE = 0.99
"""What a peer's vector must reach beside the model's own: its weights may be rounded in another way."""

START_SECONDS, STOP_SECONDS = 180.0, 60.0


@dataclass(frozen=True)
class Peer:
    """A server to compare with: its name, and the command that starts it on ``{port}``."""

    name: str
    command: str


@dataclass
class Running:
    """A peer that runs, or the reason why it does not.

    Attributes:
        name: The peer.
        port: Its port.
        model: What it calls its model.
        error: What failed.
    """

    name: str
    port: int = 0
    model: str = ""
    error: str = ""
    turns: list[Turn] = field(default_factory=list)


def parse_peer(text: str) -> Peer:
    """Parses NAME=COMMAND.

    Raises:
        InputError: If it is something else, or the command names no port.
    """
    name, found, command = text.partition("=")
    if not found or not name or "{port}" not in command:
        raise InputError(
            "a peer of --serve cannot be used",
            got=text,
            expected="NAME=COMMAND with {port} in the command",
            fix="--serve-peer 'litert-lm=litert-lm serve --port {port}'",
        )
    return Peer(name, command)


@contextmanager
def started(peers: Sequence[Peer]) -> Iterator[list[Running]]:
    """Starts all peers, and stops them at the end. One that does not start has its error."""
    with ExitStack() as stack:
        yield [stack.enter_context(_start(peer)) for peer in peers]


@contextmanager
def _start(peer: Peer) -> Iterator[Running]:
    running = Running(peer.name, _free_port())
    words = shlex.split(peer.command.replace("{port}", str(running.port)))
    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(words, stdout=log, stderr=log)
        except OSError as error:
            running.error = one_line(error)
            yield running
            return
        try:
            running.model = _model_of(running.port, process)
            if not running.model:
                log.seek(0)
                said = log.read().decode("utf-8", "replace").strip()
                running.error = f"it did not answer GET /v1/models: {said[-300:] or 'no word'}"
            yield running
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Asks a server to end, and kills it if it takes too long."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _model_of(port: int, process: subprocess.Popen[bytes]) -> str:
    """Returns the first model that a server names once it listens; nothing if it never does."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection(HOST, port, timeout=START_SECONDS)
        try:
            connection.request("GET", "/v1/models")
            answer = connection.getresponse()
            if answer.status == 200:
                return str(json.load(answer)["data"][0]["id"])
        except (OSError, http.client.HTTPException):  # it does not listen yet
            time.sleep(0.2)
        finally:
            connection.close()
        time.sleep(0.05)
    return ""


def play(running: Running, text: str, truth: Any, *, clients: int, seconds: float) -> None:
    """Lets clients send a text for a while. A wrong vector or a lost connection is the peer's error."""
    if running.error:
        return
    body = {"model": running.model, "input": text, "encoding_format": "base64"}
    request = post(PATH, json.dumps(body).encode())
    try:
        turn = closed_loop(
            running.port, request, clients=clients, seconds=seconds, check=checker(running.name, truth)
        )
    except (WorkerError, OSError) as error:
        running.error = one_line(error)
        return
    running.turns.append(turn)


def checker(name: str, truth: Any) -> Callable[[Reply], None]:
    """Returns a check that a peer's answer holds nearly the model's own vector."""
    right: set[bytes] = set()

    def check(reply: Reply) -> None:
        if reply.status != 200:
            raise WorkerError(f"{name} refused a request", got=f"status {reply.status}: {reply.body[:200]!r}")
        if reply.body in right:
            return
        vector = vectors_of(reply.body)[0].astype(np.float64)
        cosine = float(vector @ truth / np.linalg.norm(vector) / np.linalg.norm(truth))
        if not cosine >= LEAST_COSINE:
            raise WorkerError(
                f"{name} gave another vector", got=f"cosine {cosine:.4f}", expected=f"{LEAST_COSINE} or more"
            )
        if len(right) < 100:
            right.add(reply.body)

    return check


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listening:
        return int(listening.getsockname()[1])
