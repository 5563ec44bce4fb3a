"""The measuring process: one engine in a process of its own, driven by lines of JSON.

`python -m edge_embed_bench.worker.measure` reads one request per line and answers each with one line.
Every clock runs in this process, beside the code that it times. At start the process imports the standard
library only, so that the memory and the import time that it reports belong to the engine. It runs wherever
Python runs: on the host, or copied to a board.

A request's `op` is a method of `Worker`. The process ends when its input ends.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import glob  # noqa: E402 - the clock comes first
import importlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from dataclasses import asdict, dataclass  # noqa: E402
from typing import Any, Protocol  # noqa: E402

_STATUS = {"VmRSS": "rss_bytes", "RssAnon": "anonymous_bytes", "VmHWM": "peak_bytes"}


CALL_BATCHES = 8
"""Batches of one call, so that an engine can run texts of similar length together."""


@dataclass(frozen=True)
class Job:
    """What to load.

    Attributes:
        model: The model file.
        artifact: The peer's own model with the same weights.
        cache: A directory for files that make later loads faster.
        threads: Threads of one run.
        length: The largest number of tokens of a text.
        accelerator: The accelerator that runs it.
    """

    model: str
    artifact: str | None
    cache: str
    threads: int
    length: int
    accelerator: str = "cpu"


class Engine(Protocol):
    """An engine to measure. The import of its module and its `load` are timed separately."""

    def load(self, job: Job) -> None:
        """Makes the model ready to run."""
        ...

    def embed(self, batch: Sequence[Sequence[int]]) -> Any:
        """Returns the vectors of a batch of token ids, ``(n, dimension)``, unit length."""
        ...

    def facts(self) -> dict[str, dict[str, str]]:
        """Returns `versions` and `settings`, as in `records.record.EngineFacts`."""
        ...


class TextEngine(Engine, Protocol):
    """An engine that also tokenizes."""

    def embed_documents(self, texts: Sequence[str], batch: int) -> Any:
        """Returns the vectors of documents, ``(n, dimension)``."""
        ...

    def count(self, texts: Sequence[str]) -> tuple[list[int], int]:
        """Returns the tokens that each document is run with, and how many documents are cut."""
        ...


class Worker:
    """Answers requests. A request is an object whose `op` names a method."""

    def __init__(self) -> None:
        self._engine: Any = None

    def open(self, module: str) -> dict[str, Any]:
        """Imports an engine, `module:Class`."""
        name, _, attribute = module.partition(":")
        started = time.perf_counter()
        self._engine = getattr(importlib.import_module(name), attribute)()
        return {"import_s": time.perf_counter() - started}

    def load(self, **job: Any) -> dict[str, Any]:
        """Loads the model."""
        started = time.perf_counter()
        self._engine.load(Job(**job))
        return {"load_s": time.perf_counter() - started, **self._engine.facts()}

    def embed(self, batch: list[list[int]], calls: int, vectors: bool = False) -> dict[str, Any]:
        """Runs a batch of token ids `calls` times."""
        samples, processor, result = _timed(lambda: self._engine.embed(batch), calls)
        answer = {"samples_s": samples, "processor_s": processor}
        return {**answer, **({"vectors": result.tolist()} if vectors else {})}

    def text(self, length: int) -> dict[str, Any]:
        """Makes a text of `length` tokens, or of the nearest number below that the tokenizer allows."""
        text, tokens = self._engine.text_of(length)
        return {"text": text, "tokens": tokens}

    def embed_texts(self, texts: list[str], calls: int) -> dict[str, Any]:
        """Tokenizes and runs a batch of texts `calls` times, without a prompt."""
        return {"samples_s": _timed(lambda: self._engine.embed_texts(texts), calls)[0]}

    def memory(self) -> dict[str, int | None]:
        """Reads the memory of this process. A figure that the system does not report is None."""
        return read_memory()

    def machine(self) -> dict[str, Any]:
        """Describes this machine, as `records.record.Machine`."""
        from edge_embed_bench.records.machine import (
            read_machine,
        )  # imported late, so that it is not part of an engine's memory

        return asdict(read_machine())

    def conditions(self) -> dict[str, Any]:
        """Reads the temperature of the processor and the cores that this process may use."""
        return {"temperature_c": read_temperature(), "cores": _cores()}

    def stored(self, paths: list[str]) -> dict[str, Any]:
        """Returns the bytes of each file, or of every file under each directory."""
        return {"bytes": [_bytes_at(path) for path in paths]}

    def probe(self, number: int) -> dict[str, Any]:
        """Answers one of the file's own probes, as `targets.base.Answer`."""
        answer: dict[str, Any] = self._engine.probe(number)
        return answer

    def delegate(self, length: int) -> dict[str, Any]:
        """Reports how the graph of a length was divided."""
        report: dict[str, Any] = self._engine.delegate(length)
        return report

    def prepare(self, checkpoint: str, directory: str) -> dict[str, Any]:
        """Writes the peer's own model into a directory."""
        self._engine.prepare(checkpoint, directory)
        return {}

    def corpus(self, texts: list[str], batch: int) -> dict[str, Any]:
        """Embeds documents in order, the first alone and then `CALL_BATCHES` batches at a time."""
        embed, step = self._engine.embed_documents, CALL_BATCHES * batch
        started = time.perf_counter()
        embed(texts[:1], batch)
        first = time.perf_counter()
        chunks = []
        for start in range(1, len(texts), step):
            before = time.perf_counter()
            embed(texts[start : start + step], batch)
            chunks.append(time.perf_counter() - before)
        total = time.perf_counter() - started
        tokens, truncated = self._engine.count(texts)  # after the clock
        return {
            "total_s": total,
            "first_vector_s": first - STARTED,
            "chunks_s": chunks,
            "tokens": sum(tokens),
            "truncated": truncated,
        }


def read_memory() -> dict[str, int | None]:
    """Returns `rss_bytes`, `anonymous_bytes` and `peak_bytes` of this process."""
    figures: dict[str, int | None] = dict.fromkeys(_STATUS.values())
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as handle:
            for line in handle:
                name, _, rest = line.partition(":")
                if name in _STATUS:
                    figures[_STATUS[name]] = int(rest.split()[0]) * 1024
    except OSError:
        import resource  # systems without /proc

        import psutil

        figures["rss_bytes"] = int(psutil.Process().memory_info().rss)
        # macOS counts in bytes; other systems without /proc count in kibibytes.
        unit = 1 if sys.platform == "darwin" else 1024
        figures["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return figures


def read_temperature(root: str = "/") -> float | None:
    """Returns the temperature of the processor in degrees Celsius, None if the system reports none.

    Args:
        root: Where /sys is.

    If there are several sensors, one with the processor in its name is used, else the hottest.
    """
    found: dict[str, float] = {}
    for zone in glob.glob(os.path.join(root, "sys/class/thermal/thermal_zone*")):
        try:
            with open(os.path.join(zone, "type"), encoding="utf-8", errors="replace") as handle:
                name = handle.read().strip().lower()
            with open(os.path.join(zone, "temp"), encoding="ascii", errors="replace") as handle:
                value = int(handle.read()) / 1000
        except (OSError, ValueError):  # a sensor that is switched off
            continue
        if 0 < value < 150:  # broken sensors report 0, -40 or 200
            found[name] = max(value, found.get(name, value))
    named = [value for name, value in found.items() if any(word in name for word in _PROCESSOR_SENSORS)]
    return max(named or found.values(), default=None)


_PROCESSOR_SENSORS = ("cpu", "soc", "x86_pkg", "big", "package")


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _bytes_at(path: str) -> int:
    if not os.path.isdir(path):
        return os.path.getsize(path)
    return sum(
        os.path.getsize(os.path.join(parent, name)) for parent, _, names in os.walk(path) for name in names
    )


def _timed(call: Callable[[], Any], calls: int) -> tuple[list[float], list[float], Any]:
    """Returns the time of every call, its processor time, and the last result."""
    samples, processor, result = [], [], None
    for _ in range(calls):
        used, started = time.process_time(), time.perf_counter()
        result = call()
        samples.append(time.perf_counter() - started)
        processor.append(time.process_time() - used)
    return samples, processor, result


def serve() -> None:
    """Answers requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Engines print to the output, which must hold answers only.
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("op"))(**request)
        except MemoryError:
            answer = {"error": "out of memory"}
        except Exception as error:  # noqa: BLE001 - whatever an engine raises becomes its record's error
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
