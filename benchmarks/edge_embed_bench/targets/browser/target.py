"""The target `browser`: LiteRT.js in headless Chromium, WebAssembly as its CPU and WebGPU as its GPU.

Node.js controls the browser and answers the same requests as every measuring process; the clocks run in the
page. Texts become token ids here, because a web app brings its own tokenizer. The vectors of the page are
compared with those of this machine's CPU, or with the source if its vectors are known.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_embed import Embedder
from edge_embed.engine.litert.gpu_graph import read_graph
from edge_embed.errors import InputError
from edge_embed.model_file.file import ModelFile
from edge_embed.proof.rerun import Rerun
from edge_embed.proof.self_check import accelerator_bound
from edge_embed_bench.errors import TargetError
from edge_embed_bench.records.machine import read_machine
from edge_embed_bench.records.record import OURS, Cell, Machine, Record
from edge_embed_bench.targets.base import Answer, Plan, Settings, Subject
from edge_embed_bench.targets.browser.tools import Tools, find
from edge_embed_bench.targets.workers import Workers
from edge_embed_bench.worker import token_ids
from edge_embed_bench.worker.process import Launch, WorkerProcess

PAGE = Path(__file__).with_name("page")

_NO_DELEGATE = "LiteRT.js does not list its partitions; the engine's settings say what it ran on"
_GPU = "gpu"
_TRIES, _PAUSE_S = 20, 0.25


class Page:
    """Starts Node.js, which starts the browser.

    Attributes:
        accelerator: The accelerator of the next process.
    """

    emulator: str | None = None

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.accelerator = "cpu"
        self._tools: Tools | None = None
        self._work: tempfile.TemporaryDirectory[str] | None = None
        self._models: dict[str, dict[str, Any]] = {}

    def prepare(self) -> None:
        """Finds the programs, and installs the packages if that is allowed."""
        self._tools = find(prepare=self._settings.prepare, timeout=self._settings.timeout)
        self._work = tempfile.TemporaryDirectory(prefix="edge-embed-browser-", ignore_cleanup_errors=True)

    def machine(self) -> Machine | None:
        """Describes this machine."""
        return read_machine()

    def push(self, path: Path) -> str:
        """Registers a file for the page. For a GPU its graph is written to a file of its own."""
        place = str(path.resolve())
        file = ModelFile.open(path)
        gpu = self.accelerator == _GPU
        name = f"{file.manifest.graph.sha256[:16]}-{'gpu' if gpu else 'cpu'}"
        graph = place
        if gpu:
            graph = str(self._directory() / name)
            if name not in self._models:
                Path(graph).write_bytes(read_graph(path, file.manifest.graph.bytes))
        self._models = {key: one for key, one in self._models.items() if one["path"] != place} | {
            name: {
                "path": place,
                "graph": graph,
                "buckets": file.manifest.buckets,
                "pad_id": file.manifest.tokenizer.pad_id,
                "float16": file.manifest.graph.fp16_safe,
            }
        }
        return place

    def directory(self) -> AbstractContextManager[str]:
        """Makes a temporary directory."""
        return tempfile.TemporaryDirectory(prefix="edge-embed-bench-")

    def launch(self, threads: int) -> Launch:
        """Starts Node."""
        if self._tools is None:
            raise TargetError("the browser target is closed")
        options = {
            "modules": str(self._tools.modules),
            "chromium": self._tools.chromium,
            "page": str(PAGE),
            "profile": str(self._directory()),
            "threads": threads,
            "gpu": self.accelerator == _GPU,
            "models": self._models,
        }
        return Launch((self._tools.node, str(PAGE / "worker.mjs"), json.dumps(options)), dict(os.environ))

    def clean_up(self) -> None:
        """Removes the profiles and graphs; the packages stay for the next time."""
        if self._work is not None:
            for _ in range(_TRIES):
                # A browser writes until it has ended, which takes a moment after its pipe closes.
                self._work.cleanup()
                if not os.path.exists(self._work.name):
                    break
                time.sleep(_PAUSE_S)
                shutil.rmtree(self._work.name, ignore_errors=True)
            self._work = None
        self._tools, self._models = None, {}

    def _directory(self) -> Path:
        if self._work is None:
            raise TargetError("the browser target is closed")
        return Path(self._work.name)


class Browser(Workers):
    """Measures in a browser on this machine."""

    accelerators: Sequence[str] = ("cpu", _GPU)

    def __init__(self, name: str, settings: Settings) -> None:
        if name != "browser":
            raise InputError("the target browser takes no parameter", got=repr(name), expected="browser")
        self._page = Page(settings)
        super().__init__(self._page, settings)

    def measure(self, subjects: Sequence[Subject], cell: Cell, plan: Plan) -> Iterator[Record]:
        """Measures all subjects in one cell, each in a browser of its own, by turns."""
        self._page.accelerator = cell.accelerator
        known = set(plan.reference)
        here = {
            (s.model.facts.sha256, cell.length): _vectors_here(s, cell, plan)
            for s in subjects
            if s.engine == OURS
        }
        plan = replace(plan, reference={**here, **plan.reference})
        for record in super().measure([_in_page(s, cell.accelerator) for s in subjects], cell, plan):
            source = (record.model.sha256, cell.length) in known
            beside = "the fp32 source" if source else "this machine's CPU"
            settings = {**record.engine.settings, "agreement with": beside}
            missing = record.not_measured | {"delegate": _NO_DELEGATE}
            yield replace(record, engine=replace(record.engine, settings=settings), not_measured=missing)

    def rerun(
        self, file: ModelFile, num_threads: int | None, advance: Callable[[int], object]
    ) -> list[Answer]:
        """Answers the probes in one page; the texts become ids here."""
        threads = num_threads or 1
        self._page.accelerator = self._settings.accelerator
        path = self._page.push(file.path)
        with (
            Rerun(file.path, threads) as host,
            WorkerProcess(
                "page", threads=threads, timeout=self._settings.timeout, launch=self._page.launch(threads)
            ) as worker,
        ):
            worker.ask("load", model=path)
            answers = []
            for probe in file.probes():
                fed = host.answer(probe)[0]
                vectors = worker.ask("embed", batch=[fed], calls=1, vectors=True)["vectors"]
                answers.append(Answer(fed, vectors[0]))
                advance(1)
        return answers


def _in_page(subject: Subject, accelerator: str) -> Subject:
    """Returns a subject for a page, which has no tokenizer and keeps no packed weights."""
    problem = None if subject.engine == OURS else f"{subject.engine} does not run in a browser"
    manifest = subject.model.manifest
    bound = accelerator_bound(manifest, accelerator == _GPU and manifest.graph.fp16_safe)
    least = max(subject.least_cosine, bound)
    return replace(
        subject, tokenizes=False, caches=False, least_cosine=least, problem=subject.problem or problem
    )


def _vectors_here(subject: Subject, cell: Cell, plan: Plan) -> list[list[float]]:
    """Returns the vectors of this machine for the ids of a cell."""
    batch = token_ids.batch(subject.model.manifest.tokenizer, cell.length, cell.batch, plan.run.seed)
    with Embedder(subject.model.path, num_threads=cell.threads, weight_cache="memory") as model:
        return [model.encode_tokens(tokens).tolist() for tokens in batch]
