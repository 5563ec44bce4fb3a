"""A file's own probes as an engine: what `edge_embed verify --target` asks of a worker process."""

from __future__ import annotations

from typing import Any

from edge_embed.model_file.file import ModelFile
from edge_embed.proof.rerun import Rerun
from edge_embed_bench.worker.measure import Job


class Probes:
    """Answers a file's probes, one by one. Loads with weights packed anew and the graph's hash checked."""

    def __init__(self) -> None:
        self._rerun: Any = None
        self._probes: Any = None

    def load(self, job: Job) -> None:
        """Opens the file."""
        file = ModelFile.open(job.model)
        file.verify_graph()
        self._probes = file.probes()
        self._rerun = Rerun(job.model, job.threads, job.accelerator)

    def probe(self, number: int) -> dict[str, Any]:
        """Returns a probe's ids and vector, as `targets.base.Answer`."""
        tokens, vector = self._rerun.answer(self._probes[number])
        return {"tokens": tokens, "vector": vector.tolist()}

    def facts(self) -> dict[str, dict[str, str]]:
        """Returns nothing: no record comes of this."""
        return {"versions": {}, "settings": {}}
