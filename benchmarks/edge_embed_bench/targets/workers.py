"""Targets that run Python: one worker process per subject. The subjects take turns."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_embed.errors import EdgeEmbedError
from edge_embed.model_file.file import ModelFile
from edge_embed.names import ACCELERATORS
from edge_embed.options import check_threads
from edge_embed_bench.errors import MeasurementError
from edge_embed_bench.records.record import (
    CORPUS,
    FAILED,
    LATENCY,
    OK,
    OURS,
    Agreement,
    Cell,
    Conditions,
    Delegate,
    EngineFacts,
    Latency,
    Load,
    Machine,
    Memory,
    Record,
    Run,
    Storage,
    Throughput,
)
from edge_embed_bench.targets import agreement
from edge_embed_bench.targets.base import Answer, Plan, Settings, Subject
from edge_embed_bench.targets.transport import Transport
from edge_embed_bench.worker import token_ids
from edge_embed_bench.worker.process import WorkerProcess

PROBES = "edge_embed_bench.worker.probes:Probes"

PAUSE_S = 0.02
"""Pause between turns, in seconds. Thread pools still use the processor for some milliseconds after work."""

_FAILURES = (EdgeEmbedError, OSError, KeyError, TypeError, ValueError)
"""Errors of a measuring process, and of an answer that is not as expected."""


class Workers:
    """Measures through worker processes.

    Args:
        transport: Starts them.
        settings: The settings of all targets.
    """

    accelerators: Sequence[str] = ACCELERATORS

    def __init__(self, transport: Transport, settings: Settings) -> None:
        self._transport, self._settings = transport, settings
        self._machine: Machine | None = None

    def prepare(self) -> None:
        """Makes the target ready and reads its description."""
        self._transport.prepare()
        self._machine = self._describe()

    def close(self) -> None:
        """Removes the files of this run."""
        self._transport.clean_up()

    def rerun(
        self, file: ModelFile, num_threads: int | None, advance: Callable[[int], object]
    ) -> list[Answer]:
        """Answers the probes in one process there, without a cache of packed weights."""
        threads = check_threads(num_threads)
        with WorkerProcess(
            PROBES, threads=threads, timeout=self._settings.timeout, launch=self._transport.launch(threads)
        ) as worker:
            path = self._transport.push(file.path)
            worker.ask(
                "load",
                model=path,
                artifact=None,
                cache="memory",
                threads=threads,
                length=0,
                accelerator=self._settings.accelerator,
            )
            answers = []
            for number in range(len(file.probes())):
                answers.append(Answer(**worker.ask("probe", number=number)))
                advance(1)
        return answers

    def _describe(self) -> Machine:
        machine = self._transport.machine()
        if machine is None:
            with WorkerProcess(
                None, threads=1, timeout=self._settings.timeout, launch=self._transport.launch(1)
            ) as worker:
                machine = Machine(**worker.ask("machine"))
        if self._transport.emulator:
            # It has no clock governor, and its sensors are those of the host.
            return replace(machine, emulator=self._transport.emulator, governor=None, model=None, soc=None)
        return machine

    def measure(self, subjects: Sequence[Subject], cell: Cell, plan: Plan) -> Iterator[Record]:
        """Prepares every subject, lets them take turns, and yields their records in order."""
        with contextlib.ExitStack() as stack:
            seats = [_Seat(subject, cell, plan, self._transport, stack) for subject in subjects]
            for seat in seats:
                seat.attempt(seat.prepare)
            _take_turns(seats, plan, _Seat.run)
            for seat in seats:
                seat.attempt(seat.read_memory)
            _take_turns(seats, plan, _Seat.run_texts)
            for seat in seats:
                seat.attempt(seat.read_text_memory)
                seat.close()
                others = [s.label for s in subjects if s is not seat.subject]
                yield self._record(seat, replace(plan.run, interleaved_with=others), LATENCY)

    def index(self, subject: Subject, cell: Cell, plan: Plan, corpus: Path, texts: Sequence[str]) -> Record:
        """Embeds a corpus, in a process whose engine has its cache already."""
        with contextlib.ExitStack() as stack:
            seat = _Seat(subject, cell, plan, self._transport, stack)
            seat.attempt(lambda: seat.index(corpus, texts))
            return self._record(seat, plan.run, CORPUS)

    def _record(self, seat: _Seat, run: Run, kind: str) -> Record:
        self._machine = self._machine or self._describe()
        base: dict[str, Any] = {
            "kind": kind,
            "model": seat.subject.model.facts,
            "cell": seat.cell,
            "machine": self._machine,
            "run": run,
            "engine": seat.engine,
            "not_measured": seat.missing,
        }
        try:
            if seat.error is None:
                return Record(status=OK, error=None, **seat.parts(), **base)
        except MeasurementError as error:
            seat.error = _one_line(error)
        return Record(status=FAILED, error=seat.error, **base)


def _take_turns(seats: Sequence[_Seat], plan: Plan, action: Any) -> None:
    """Lets every seat take samples by turns, in alternating order, so that slow changes affect all alike."""
    rounds = -(-plan.run.repetitions // plan.turn)
    for number in range(rounds):
        count = min(plan.turn, plan.run.repetitions - number * plan.turn)
        for seat in seats if number % 2 == 0 else reversed(seats):
            if len(seats) > 1:
                time.sleep(PAUSE_S)
            seat.attempt(lambda seat=seat, count=count, number=number: action(seat, count, number))


class _Seat:
    """One subject in one cell: its process and its measurements. After an error it does nothing more."""

    def __init__(
        self, subject: Subject, cell: Cell, plan: Plan, transport: Transport, stack: contextlib.ExitStack
    ) -> None:
        self._transport = transport
        self.subject, self.cell, self._plan = subject, cell, plan
        self.error = subject.problem
        if cell.accelerator != "cpu" and subject.engine != OURS:
            self.error = self.error or f"{subject.engine} is measured on the CPU only"
        self.engine = EngineFacts(subject.engine, {}, {})
        self.missing: dict[str, str] = {}
        self._stack = stack
        self._worker: Any = None
        self._parts: dict[str, Any] = {}
        self._samples: list[float] = []
        self._processor: list[float] = []
        self._text_samples: list[float] = []
        self._text: tuple[str, int] | None = None
        manifest = subject.model.manifest
        length = cell.length or len(manifest.self_check.tokens)  # a corpus determines the lengths
        self._batch = token_ids.batch(manifest.tokenizer, length, cell.batch, plan.run.seed)
        self._cache = ""
        self._pushed: dict[str, str | None] = {}
        self._reads: str | None = None
        self._before: float | None = None

    def attempt(self, action: Any) -> None:
        """Runs `action` unless there was an error before. Keeps the error if it fails."""
        if self.error is None:
            try:
                action()
            except _FAILURES as error:
                self.error = _one_line(error)
                self.close()

    def prepare(self) -> None:
        """Copies the files, loads cold and warm, and checks and warms up the last process."""
        self._push()
        cold = cold_first = None
        if self.subject.caches:
            with self._start() as worker:
                cold, cold_first = self._load(worker)
                if self.subject.tokenizes:
                    self._parts["delegate"] = Delegate(**worker.ask("delegate", length=self.cell.length))
        else:
            self.missing["load.cold_s"] = "it keeps no files that make a later load faster"
        warm, first, imports = [], [], 0.0
        for number in range(self._plan.loads):
            worker = self._start()
            self._worker = worker if number == self._plan.loads - 1 else None
            load_s, first_s = self._load(worker)
            warm.append(load_s)
            first.append(first_s)
            imports = worker.import_s
            if self._worker is None:
                worker.close()
        self._parts["load"] = Load(imports, cold, cold_first, warm, first)
        stored = self._worker.ask(
            "stored", paths=[self._reads or self._pushed["artifact"] or self._pushed["model"], self._cache]
        )
        size, cache = stored["bytes"][0], stored["bytes"][1] or None
        self._parts["storage"] = Storage(size, cache)
        if cache is None:
            self.missing["storage.cache_bytes"] = "it keeps no cache"
        if not self.subject.tokenizes:
            self.missing |= {
                "text_latency": "it receives token ids",
                "text_memory": "it receives token ids",
                "delegate": "it has no delegate",
            }
        self._check()
        self._ask_embed(self._plan.run.warmup)
        self._before = self._worker.ask("conditions")["temperature_c"]

    def run(self, count: int, number: int) -> None:
        """Takes `count` samples."""
        if number:
            self._ask_embed(1)  # other subjects have used the processor's caches meanwhile
        answer = self._ask_embed(count)
        self._samples += answer["samples_s"]
        self._processor += answer["processor_s"]

    def run_texts(self, count: int, number: int) -> None:
        """Takes `count` samples from text."""
        if not self.subject.tokenizes:
            return
        if self._text is None:
            answer = self._worker.ask("text", length=self.cell.length)
            self._text = (answer["text"], int(answer["tokens"]))
        text, _ = self._text
        if not text:
            self.missing["text_latency"] = f"no word of the built-in text fits into {self.cell.length} tokens"
            return
        texts = [text] * self.cell.batch
        self._worker.ask("embed_texts", texts=texts, calls=1)
        self._text_samples += self._worker.ask("embed_texts", texts=texts, calls=count)["samples_s"]

    def read_memory(self) -> None:
        """Reads the process's memory before anything was tokenized."""
        self._parts["memory"] = self._memory("memory")

    def read_text_memory(self) -> None:
        """Reads it again with the tokenizer loaded."""
        if self._text_samples:
            self._parts["text_memory"] = self._memory("text_memory")
        self._keep_conditions()

    def index(self, corpus: Path, texts: Sequence[str]) -> None:
        """Embeds documents in a fresh process, after another one has filled the cache."""
        self._push()
        if self.subject.caches:
            with self._start() as worker:
                self._load(worker)
        worker = self._worker = self._start()
        load_s = float(worker.ask("load", **self._job())["load_s"])
        self._before = worker.ask("conditions")["temperature_c"]
        answer = worker.ask("corpus", texts=list(texts), batch=self.cell.batch)
        total = float(answer["total_s"])
        self._parts["throughput"] = Throughput(
            corpus=corpus.name,
            documents=len(texts),
            tokens=answer["tokens"],
            truncated=answer["truncated"],
            total_s=total,
            first_vector_s=answer["first_vector_s"],
            chunks_s=answer["chunks_s"],
            documents_per_s=len(texts) / total,
            tokens_per_s=answer["tokens"] / total,
        )
        self._parts["text_memory"] = self._memory("text_memory")
        self._parts["load"] = Load(worker.import_s, None, None, [load_s], [])
        self._keep_conditions()
        self.close()

    def parts(self) -> dict[str, Any]:
        """Returns the record's measured fields.

        Raises:
            MeasurementError: If a clock reading is not positive.
        """
        tokens, batch = self.cell.length, self.cell.batch
        if self._samples:
            self._parts["latency"] = Latency.of(
                self._samples, tokens=tokens, batch=batch, processor=self._processor
            )
        if self._text_samples and self._text:
            self._parts["text_latency"] = Latency.of(self._text_samples, tokens=self._text[1], batch=batch)
        return self._parts

    def close(self) -> None:
        """Ends the process."""
        if self._worker is not None:
            self._worker.close()

    def _push(self) -> None:
        subject, push = self.subject, self._transport.push
        self._pushed = {
            "model": push(subject.model.path),
            "artifact": push(subject.artifact) if subject.artifact else None,
        }
        self._cache = self._stack.enter_context(self._transport.directory())

    def _start(self) -> WorkerProcess:
        threads = self.cell.threads
        worker = WorkerProcess(
            self.subject.module,
            threads=threads,
            timeout=self._plan.timeout,
            launch=self._transport.launch(threads),
        )
        return self._stack.enter_context(worker)

    def _job(self) -> dict[str, Any]:
        length = self.cell.length or self.subject.model.manifest.max_tokens
        return {
            **self._pushed,
            "cache": self._cache,
            "threads": self.cell.threads,
            "length": length,
            "accelerator": self.cell.accelerator,
        }

    def _keep_conditions(self) -> None:
        now = self._worker.ask("conditions")
        before, after = self._before, now["temperature_c"]
        if self._transport.emulator:
            before = after = None
        self._parts["conditions"] = Conditions(before, after, now["cores"])
        if before is None or after is None:
            emulated = "an emulated machine has none"
            reason = emulated if self._transport.emulator else "this system offers none"
            self.missing["conditions.temperature_c"] = reason

    def _load(self, worker: WorkerProcess) -> tuple[float, float]:
        answer = worker.ask("load", **self._job())
        self.engine = EngineFacts(self.subject.engine, answer["versions"], answer["settings"])
        self._reads = answer.get("file")
        first = worker.ask("embed", batch=self._batch, calls=1)["samples_s"][0]
        return float(answer["load_s"]), float(first)

    def _check(self) -> None:
        expected = self._plan.reference.get((self.subject.model.facts.sha256, self.cell.length))
        if expected is None:
            self.missing["agreement"] = "no source checkpoint was given to compare with"
            return
        vectors = self._worker.ask("embed", batch=self._batch, calls=1, vectors=True)["vectors"]
        cosine = agreement.least_cosine(vectors, expected[: self.cell.batch])
        self._parts["agreement"] = Agreement(cosine, self.subject.least_cosine)
        agreement.require(cosine, self.subject.least_cosine)

    def _ask_embed(self, calls: int) -> Any:
        if calls < 1:
            return None
        return self._worker.ask("embed", batch=self._batch, calls=calls)

    def _memory(self, name: str) -> Memory | None:
        figures = self._worker.ask("memory")
        if why := figures.get("unknown"):
            self.missing[name] = why
            return None
        if unread := [key for key in ("rss_bytes", "peak_bytes") if not figures[key]]:
            raise MeasurementError("the system does not report the process's memory", got=f"no {unread[0]}")
        if figures["anonymous_bytes"] is None:
            self.missing[f"{name}.anonymous_bytes"] = "this system does not report it"
        return Memory(**figures)


def _one_line(error: BaseException) -> str:
    return " ".join(f"{error}".split()) or type(error).__name__
