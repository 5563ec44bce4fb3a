"""The probes of a file, answered by a worker process for `edge_embed verify --target`."""

from __future__ import annotations

from typing import Any

from edge_embed.model_file.file import ModelFile
from edge_embed.proof.rerun import Rerun
from edge_embed_bench.worker.measure import Job


class Probes:
    """Answers the probes of a file one by one. Checks the hash of the graph and packs the weights anew."""

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
        """Returns nothing, because there is no record."""
        return {"versions": {}, "settings": {}}
