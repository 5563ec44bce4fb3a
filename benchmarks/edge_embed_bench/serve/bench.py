"""`edge_embed bench --serve`: a server and the model itself by turns, then many requests, then too many."""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from edge_embed.errors import InputError
from edge_embed.progress import progress_bar
from edge_embed_bench.errors import WorkerError
from edge_embed_bench.records.machine import describe_machine
from edge_embed_bench.records.stats import median, quantiles
from edge_embed_bench.reports.documents import check_document_files, write_document
from edge_embed_bench.serve.clients import HOST, Reply, Turn, closed_loop, open_loop, post
from edge_embed_bench.serve.peers import Running, parse_peer, play, started, stop
from edge_embed_bench.serve.report import markdown, table
from edge_embed_bench.serve.soak import PATH, shots, soak, vectors_of
from edge_embed_bench.worker.process import Launch, WorkerProcess, here

CLIENTS = 32
TOKENS = 16
"""Tokens of the text that the clients send."""

TURN_SECONDS = 4.0
OVERLOAD = 5
"""How many times more requests arrive than the server was seen to answer."""

CONNECTIONS = 256
TEXTS = 200
"""Different texts of the soak."""

START_SECONDS = 120.0


@dataclass(frozen=True)
class Server:
    """A running server: its port and its process."""

    port: int
    process: psutil.Process

    def memory(self) -> int:
        """Returns its resident memory in bytes."""
        return int(self.process.memory_info().rss)

    def processor(self) -> float:
        """Returns the processor time that it has taken, in seconds."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


def run(args: argparse.Namespace) -> int:
    """Measures and reports.

    Returns:
        1 if a vector was wrong, a request was lost, or an answer had a wrong status.
    """
    if len(args.files) != 1:
        raise InputError(
            "--serve takes one model file",
            got=f"{len(args.files)} files",
            fix="edge_embed bench model.tflite --serve",
        )
    check_document_files(args.output)
    peers = [parse_peer(words) for words in args.serve_peer]
    threads = (args.threads or [0])[0]
    with _model(args.files[0], threads) as model, tempfile.TemporaryDirectory() as folder:
        text = model.ask("texts", lengths=[TOKENS])["texts"][0]
        truth = _vectors(model, [text], Path(folder))
        with server(args.files[0], threads) as running:
            with started(peers) as others:
                rounds = _rounds(model, running, text, truth[0], args.rounds, others)
            soaked = _soak(model, running, Path(folder), args.requests)
            usual = _measured(running, lambda: _crowd(running, text, truth[0], TURN_SECONDS))
        limit = f"{median(usual.latencies):.3f}"
        with server(args.files[0], threads, ["--queue-seconds", limit]) as running:
            overload = _overload(running, text, truth[0], usual)
    document: dict[str, Any] = {
        "command": "edge_embed bench " + shlex.join(sys.argv[2:]),
        "machine": describe_machine(),
        "model": args.files[0].name,
        "clients": CLIENTS,
        "tokens": TOKENS,
        "rounds": rounds,
        "peers": {
            other.name: {"error": other.error, "turns": [_kept(turn) for turn in other.turns]}
            for other in others
        },
        "soak": soaked,
        "overload": overload,
    }
    write_document(document, args.output, markdown)
    sys.stdout.write(json.dumps(document) + "\n" if args.json else table(document))
    return int(bool(soaked["wrong_vectors"] or soaked["wrong_statuses"] or soaked["lost"]))


@contextmanager
def server(model: Path, threads: int = 0, options: list[str] | None = None) -> Iterator[Server]:
    """Starts `edge_embed serve` on a free port, waits until it is ready, and stops it at the end.

    Raises:
        WorkerError: If it does not become ready.
    """
    command = [sys.executable, "-m", "edge_embed", "serve", str(model), "--port", "0", *(options or [])]
    command += ["--threads", str(threads)] if threads else []
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stderr=log, env=dict(here(threads or 1).environment))
        try:
            port = _port(process, log)
            _wait_until_ready(port)
            yield Server(port, psutil.Process(process.pid))
        finally:
            stop(process)


def _port(process: subprocess.Popen[bytes], log: Any) -> int:
    """Returns the port that the server's log names once it listens."""
    deadline = time.monotonic() + START_SECONDS
    words = ""
    while process.poll() is None and time.monotonic() < deadline:
        log.seek(0)
        words = log.read().decode("utf-8", "replace")
        if lines := [line for line in words.splitlines() if line.startswith("serving ")]:
            return int(lines[0].rpartition(":")[2])
        time.sleep(0.05)
    raise WorkerError("the server did not become ready", got=words.strip()[-400:] or "no word")


def _wait_until_ready(port: int) -> None:
    """Waits until every bucket is compiled."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(HOST, port, timeout=START_SECONDS)
        connection.request("GET", "/health")
        status = connection.getresponse().status
        connection.close()
        if status == 200:
            return
        time.sleep(0.05)
    raise WorkerError("the server did not become ready", got="no 200 from /health")


@contextmanager
def _model(path: Path, threads: int) -> Iterator[WorkerProcess]:
    launch = here(threads or 1)
    command = [sys.executable, "-m", "edge_embed_bench.serve.worker", str(path), str(threads)]
    with WorkerProcess(None, threads=1, launch=Launch(command, launch.environment)) as process:
        yield process


def _rounds(
    model: WorkerProcess, running: Server, text: str, truth: Any, count: int, others: Sequence[Running]
) -> list[dict[str, Any]]:
    """Takes turns: the model in bulk, 32 clients, the same at each peer, the model alone, one client."""
    # Unmeasured, so that every process has its graphs.
    model.ask("bulk", text=text, seconds=1.0)
    _crowd(running, text, truth, 1.0)
    for other in others:
        play(other, text, truth, clients=CLIENTS, seconds=1.0)
        other.turns.clear()
    rounds: list[dict[str, Any]] = []
    with progress_bar(4 * count, "serving", unit="turn") as advance:
        for _ in range(count):
            turn: dict[str, Any] = {"bulk": model.ask("bulk", text=text, seconds=TURN_SECONDS)}
            advance(1)
            turn["crowd"] = _kept(_measured(running, lambda: _crowd(running, text, truth, TURN_SECONDS)))
            advance(1)
            for other in others:
                play(other, text, truth, clients=CLIENTS, seconds=TURN_SECONDS)
            turn["single"] = quantiles(model.ask("single", text=text, seconds=TURN_SECONDS)["samples"])
            advance(1)
            turn["alone"] = _kept(_crowd(running, text, truth, TURN_SECONDS, clients=1))
            advance(1)
            rounds.append(turn)
    return rounds


def _soak(model: WorkerProcess, running: Server, folder: Path, requests: int) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    longest = model.ask("limits")["buckets"][-1]
    # As many short texts as long ones: lengths are drawn by their logarithm.
    lengths = np.exp(generator.uniform(np.log(4), np.log(longest), TEXTS)).astype(int).tolist()
    texts = model.ask("texts", lengths=[longest, *lengths])["texts"]
    plan = shots(texts, requests=requests)
    result = soak(running.port, plan, _vectors(model, texts, folder), running.memory)
    return {**asdict(result), "growth": result.growth}


def _overload(running: Server, text: str, truth: Any, usual: Turn) -> dict[str, Any]:
    """Sends five times the usual to a server whose queue may take as long as a request usually does."""
    # Few clients, so that none is refused while the server learns how long a text takes.
    closed_loop(running.port, _request(text), clients=4, seconds=1.0, check=_checker(truth))
    rate = OVERLOAD * len(usual.latencies) / usual.seconds

    def turn() -> Turn:
        return open_loop(
            running.port,
            _request(text),
            rate=rate,
            seconds=2 * TURN_SECONDS,
            connections=CONNECTIONS,
            check=_checker(truth),
        )

    return {"offered": rate, "usual": _kept(usual), "over": _kept(_measured(running, turn))}


def _crowd(running: Server, text: str, truth: Any, seconds: float, clients: int = CLIENTS) -> Turn:
    """Lets clients send one text again and again, each after the answer to the last one."""
    return closed_loop(running.port, _request(text), clients=clients, seconds=seconds, check=_checker(truth))


def _measured(running: Server, play: Callable[[], Turn]) -> Turn:
    """Plays a turn and adds the processor time that the server took for it."""
    before = running.processor()
    turn = play()
    turn.server_seconds = running.processor() - before
    return turn


def _kept(turn: Turn) -> dict[str, Any]:
    """Returns what a report keeps of a turn; `statuses` says how many answers there were."""
    return asdict(turn) | {"latencies": quantiles(turn.latencies), "refused": quantiles(turn.refused)}


def _request(text: str) -> bytes:
    return post(PATH, json.dumps({"input": text, "encoding_format": "base64"}).encode())


def _checker(truth: Any) -> Any:
    """Returns a check that an answer holds the model's own vector. It looks for its base64: that is fast."""
    wanted = base64.b64encode(np.ascontiguousarray(truth, "<f4").tobytes())

    def check(reply: Reply) -> None:
        if reply.status == 200 and wanted not in reply.body:
            got = vectors_of(reply.body)[0]
            raise WorkerError("the server gave a wrong vector", got=f"cosine {float(got @ truth):.6f}")
        if reply.status not in (200, 429):
            raise WorkerError("the server refused a good request", got=f"status {reply.status}")

    return check


def _vectors(model: WorkerProcess, texts: list[str], folder: Path) -> Any:
    path = folder / "vectors.npy"
    model.ask("vectors", texts=texts, path=str(path))
    return np.load(path)
