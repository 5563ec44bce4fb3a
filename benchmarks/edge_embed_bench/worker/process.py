"""The parent's side of a measuring process: starts it, sends requests, and reports if it dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edge_embed
import edge_embed_bench
from edge_embed_bench.errors import WorkerError

TIMEOUT_S = 900.0
"""Longest wait for one answer in seconds. After it the process is killed."""

WORKER_MODULE = "edge_embed_bench.worker.measure"

_WORDS_KEPT = 400


@dataclass(frozen=True)
class Launch:
    """How a measuring process is started.

    Attributes:
        command: The command to start on this machine; it has the pipes.
        environment: The environment of that command.
        explain: Returns the meaning of an exit code, None if it has its usual meaning.
        kill: Ends the process on a target, where `command` only connects to it.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    explain: Callable[[int], str | None] = lambda _: None
    kill: Callable[[], None] = lambda: None


def here(threads: int) -> Launch:
    """Starts this interpreter on this machine, with our packages importable and a limit on threads."""
    inherited = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join([*map(str, package_roots()), *([inherited] if inherited else [])])
    return Launch(
        (sys.executable, "-m", WORKER_MODULE), {**os.environ, "PYTHONPATH": path, **thread_limits(threads)}
    )


def package_roots() -> list[Path]:
    """Returns where our packages are imported from."""
    return list(dict.fromkeys(Path(package.__path__[0]).parent for package in (edge_embed, edge_embed_bench)))


def thread_limits(threads: int) -> dict[str, str]:
    """Returns environment variables that limit the size of thread pools."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))


class WorkerProcess:
    """One measuring process. Use it as a context manager: leaving it ends the process.

    Args:
        module: The engine, `module:Class`; None for a process without one.
        threads: The size of thread pools that read it from the environment.
        timeout: Seconds to wait for one answer.
        launch: How to start it; on this machine by default.

    Raises:
        WorkerError: If the engine cannot be imported.
    """

    def __init__(
        self, module: str | None, *, threads: int, timeout: float = TIMEOUT_S, launch: Launch | None = None
    ) -> None:
        self._timeout, self._timed_out = timeout, False
        self._launch = launch = launch or here(threads)
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            list(launch.command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            env=dict(launch.environment),
            start_new_session=True,
        )
        try:
            self.import_s = float(self.ask("open", module=module)["import_s"]) if module else 0.0
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Sends one request and returns its answer.

        Raises:
            WorkerError: If the process reports an error, dies, or does not answer in time.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        timer = threading.Timer(self._timeout, self._kill_hung)
        timer.start()
        try:
            self._process.stdin.write(json.dumps({"op": op, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            timer.cancel()
        if not line.endswith(b"\n"):
            raise self._death(op)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{op} failed", got=str(answer["error"]))
        return answer

    def close(self) -> None:
        """Ends the process. Calling it again does nothing."""
        if self._words.closed:
            return
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:  # the process died before it read the last request
                    continue
        self._words.close()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _kill_hung(self) -> None:
        self._timed_out = True
        self._process.kill()
        self._launch.kill()

    def _death(self, op: str) -> WorkerError:
        code = self._process.wait()
        if self._timed_out:
            return WorkerError(f"no answer to {op} within {self._timeout:g} s; the process was killed")
        how = self._launch.explain(code)
        how = how or (describe_signal(-code) if code < 0 else f"exit code {code}")
        self._words.seek(0)
        words = " ".join(self._words.read().decode("utf-8", "replace").split())[-_WORDS_KEPT:]
        return WorkerError(f"the measuring process died in {op}", got=f"{how}{': ' if words else ''}{words}")


def describe_signal(number: int) -> str:
    """Returns the name of a signal and its most likely cause."""
    try:
        name = f"signal {signal.Signals(number).name}"
    except ValueError:
        return f"signal {number}"
    return f"{name}, as when memory runs out" if number == signal.SIGKILL else name
