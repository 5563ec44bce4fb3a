"""The target `adb[:SERIAL]`: the benchmark activity of the Android demo, on a device connected by adb.

The app measures with its own clock and writes a record of our schema (android_demo/README.md). This module
copies the model, starts the activity with the cell as intent extras, waits for the file and fetches it.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import re
import shlex
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_embed.errors import EdgeEmbedError, InputError
from edge_embed.model_file.file import ModelFile
from edge_embed.options import check_threads
from edge_embed.progress import step_bar
from edge_embed_bench.errors import TargetError
from edge_embed_bench.files import sha256_of
from edge_embed_bench.records.record import (
    CORPUS,
    FAILED,
    LATENCY,
    OURS,
    Cell,
    EngineFacts,
    Machine,
    Record,
    Run,
    from_json,
)
from edge_embed_bench.targets.adb.device import Device
from edge_embed_bench.targets.base import Answer, Plan, Settings, Subject

APP = "edgeembed.demo"
DIRECTORY = f"/sdcard/Android/data/{APP}/files"
"""The external files directory of the app, which both sides can use."""

ABIS = ("arm64-v8a", "x86_64")
"""The processors that LiteRT's Android library is built for."""

POLL_S = 0.5


class Adb:
    """Measures in the demo app on an Android device."""

    accelerators: Sequence[str] = ("cpu",)

    def __init__(self, name: str, settings: Settings) -> None:
        match = re.fullmatch(r"adb(?::([\w.:-]+))?", name)
        if match is None:
            raise InputError("unusable adb target", got=repr(name), expected="adb[:SERIAL]")
        self._device, self._settings = Device(match[1]), settings
        self._machine: Machine | None = None
        self._placed: set[str] = set()
        self._numbers = itertools.count(1)

    def prepare(self) -> None:
        """Finds the device, and checks that it can run the app and has it."""
        device = self._device
        device.find()
        self._machine = machine = device.machine()
        if machine.architecture not in ABIS:
            raise TargetError(
                f"the device {device.serial} has a processor that LiteRT is not built for",
                got=machine.architecture,
                expected=" or ".join(ABIS),
            )
        if not device.ask(f"pm path {APP}"):
            raise TargetError(
                f"the demo app is not on the device {device.serial}",
                fix=f"build and install it (android_demo/README.md); adb shell pm path {APP} must find it",
            )
        if not self._there(DIRECTORY):
            # The system makes the directory for the app, at its first start.
            device.shell(f"am start -W -n {APP}/.MainActivity", "starting the app")
            if not self._there(DIRECTORY):
                raise TargetError(
                    f"the app has no directory on the device {device.serial}", expected=DIRECTORY
                )

    def measure(self, subjects: Sequence[Subject], cell: Cell, plan: Plan) -> Iterator[Record]:
        """Measures one subject after the other, each load in a new process of the app."""
        for subject in subjects:
            try:
                yield self._measured(subject, cell, plan)
            except (EdgeEmbedError, OSError) as error:
                yield self._failed(subject, cell, plan.run, LATENCY, " ".join(str(error).split()))

    def index(self, subject: Subject, cell: Cell, plan: Plan, corpus: Path, texts: Sequence[str]) -> Record:
        """Returns a failed record: the activity embeds no corpus."""
        return self._failed(subject, cell, plan.run, CORPUS, "the benchmark activity embeds no corpus")

    def rerun(
        self, file: ModelFile, num_threads: int | None, advance: Callable[[int], object]
    ) -> list[Answer]:
        """Lets the activity answer the file's probes."""
        extras = {"probes": True, "threads": check_threads(num_threads)}
        raw = self._run(file.path, extras, self._settings.timeout)
        if not isinstance(raw.get("answers"), list):
            raise TargetError("the app answered no probes", got=str(raw.get("error")))
        answers = []
        for item in raw["answers"]:
            vector = np.frombuffer(base64.b64decode(item["vector"]), "<f4")
            answers.append(Answer([int(token) for token in item["tokens"]], vector.tolist()))
            advance(1)
        return answers

    def close(self) -> None:
        """Stops the app and removes the files of this run."""
        if self._placed:
            names = " ".join(shlex.quote(place) for place in sorted(self._placed))
            self._placed.clear()
            try:
                self._device.shell(f"am force-stop {APP}; rm -f {names}", "cleaning up")
            except TargetError as error:
                warnings.warn(f"{error.what}; this may be left in {DIRECTORY}: {names}", stacklevel=2)

    def _measured(self, subject: Subject, cell: Cell, plan: Plan) -> Record:
        if subject.problem:
            raise TargetError(subject.problem)
        if subject.engine != OURS:
            raise TargetError(f"{subject.engine} is not in the demo app")
        if cell.batch != 1:
            raise TargetError(
                "the benchmark activity runs one text at a time", got=f"a batch of {cell.batch}"
            )
        extras = {
            "length": cell.length,
            "threads": cell.threads,
            "warmup": plan.run.warmup,
            "repetitions": plan.run.repetitions,
            "seed": plan.run.seed,
        }
        before = self._device.temperature()
        raw = self._run(subject.model.path, extras, plan.timeout)
        if raw.get("error"):
            raise TargetError("the app could not open the model", got=str(raw["error"]))
        records = from_json(json.dumps(raw), "the app's record")
        if len(records) != 1 or records[0].model.sha256 != subject.model.facts.sha256:
            raise TargetError("the app measured another file", expected=subject.model.facts.sha256)
        record, machine = records[0], self._described()
        conditions = self._device.conditions(before)
        missing = dict(record.not_measured)
        if conditions.temperature_before_c is None or conditions.temperature_after_c is None:
            missing["conditions.temperature_c"] = "this Android does not report the processor's temperature"
        return replace(
            record,
            cell=cell,
            model=subject.model.facts,
            conditions=conditions,
            not_measured=missing,
            run=replace(plan.run, interleaved_with=[]),
            machine=replace(machine, features=record.machine.features or machine.features),
        )

    def _run(self, path: Path, extras: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Starts the activity in a fresh process and returns what it wrote."""
        model = self._push(path)
        place = f"{DIRECTORY}/edge-embed-record-{next(self._numbers)}.json"
        self._placed |= {place, f"{place}.part"}
        words = [f"--es model {model.rpartition('/')[2]}", f"--es out {place.rpartition('/')[2]}"]
        for name, value in extras.items():
            words.append(f"--ez {name} true" if value is True else f"--ei {name} {value}")
        self._device.shell(f"am force-stop {APP}; rm -f {shlex.quote(place)}", "stopping the app")
        start = f"am start -n {APP}/.BenchmarkActivity {' '.join(words)}"
        answer = self._device.shell(start, "starting the benchmark activity")
        if "Error" in answer:
            raise TargetError("the benchmark activity does not start", got=" ".join(answer.split())[-300:])
        try:
            self._wait(place, timeout)
            data = self._device.fetch(place)
        finally:
            with contextlib.suppress(TargetError):
                self._device.shell(f"am force-stop {APP}; rm -f {shlex.quote(place)}", "stopping the app")
        try:
            raw = json.loads(data)
        except ValueError as error:
            raise TargetError("the app's record is not valid JSON", got=str(error)) from error
        if not isinstance(raw, dict):
            raise TargetError("the app's record is not an object", got=type(raw).__name__)
        return raw

    def _push(self, path: Path) -> str:
        """Copies a model onto the device once, under its own name."""
        place = f"{DIRECTORY}/edge-embed-{sha256_of(path)[:16]}.tflite"
        if place not in self._placed:
            self._placed.add(place)
            with step_bar(f"copying {path.name} to {self._device.serial}"):
                self._device.push(path, place, self._settings.timeout)
        return place

    def _wait(self, place: str, timeout: float) -> None:
        """Waits for the record, whose file appears when it is complete.

        Raises:
            TargetError: If the app dies or takes too long.
        """
        quoted, gone = shlex.quote(place), 0
        script = f"if [ -f {quoted} ]; then echo done"
        script += f"; elif pidof {APP} >/dev/null; then echo busy; else echo gone; fi"
        until = time.monotonic() + timeout
        while (state := self._device.shell(script, "waiting for the record").strip()) != "done":
            gone = gone + 1 if state == "gone" else 0
            if gone > 1:  # once may fall between the rename and the end of the process
                raise TargetError("the app ended without a record", got=self._death())
            if time.monotonic() > until:
                raise TargetError(f"the app wrote no record within {timeout:g} s; it was stopped")
            time.sleep(POLL_S)

    def _death(self) -> str:
        """Returns Android's reason why the last process of the app ended."""
        report = self._device.ask(f"dumpsys activity exit-info {APP}")
        found = re.search(r"reason=\d+ \(([^)]*)\)(?:.*?description=([^\n]*))?", report, re.DOTALL)
        if found is None:
            return "Android gives no reason"
        memory = "LOW_MEMORY" in found[1] or "LOW MEMORY" in found[1]
        reason = "killed for memory" if memory else found[1]
        detail = (found[2] or "").strip()
        return f"{reason} ({detail})" if detail and detail != "null" else reason

    def _failed(self, subject: Subject, cell: Cell, run: Run, kind: str, error: str) -> Record:
        return Record(
            kind=kind,
            status=FAILED,
            error=error,
            engine=EngineFacts(subject.engine, {}, {}),
            model=subject.model.facts,
            cell=cell,
            machine=self._described(),
            run=run,
        )

    def _described(self) -> Machine:
        if self._machine is None:
            self._machine = self._device.machine()
        return self._machine

    def _there(self, place: str) -> bool:
        return self._device.ask(f"[ -d {shlex.quote(place)} ] && echo yes") == "yes"
