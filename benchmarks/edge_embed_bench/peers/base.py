"""The base class of peers. They receive token ids and pad a batch to its longest text."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_embed.model_file.file import ModelFile
from edge_embed.names import DOCUMENT_PROMPTS
from edge_embed.text.prompts import task_prompt_name
from edge_embed.text.tokenizers import load_tokenizer
from edge_embed.text.windows import plan
from edge_embed_bench.worker.measure import Job

Ids = npt.NDArray[np.int64]


class TokenPeer:
    """The base class of peers. A subclass implements `load` and `run`, and may implement `prepare`."""

    packages: tuple[str, ...] = ()
    """Distributions whose versions go into the record."""

    settings: dict[str, str]
    """Settings that go into the record."""

    file: str | None = None
    """The one file that is read, if the engine's form of the weights holds others too."""

    def __init__(self) -> None:
        self.settings = {}
        self._file: Any = None
        self._tokenizer: Any = None
        self._pad = 0

    def prepare(self, checkpoint: str, directory: str) -> None:
        """Writes the engine's form of the weights into a directory."""
        raise NotImplementedError

    def load(self, job: Job) -> None:
        """Makes the model ready; the overriding method calls this one first."""
        self._file = ModelFile.open(job.model)
        self._pad = self._file.manifest.tokenizer.pad_id

    def run(self, tokens: Ids, mask: Ids) -> Any:
        """Returns the vectors of padded ids, ``(n, length)``, whose mask is 1 for text."""
        raise NotImplementedError

    def embed(self, batch: Sequence[Sequence[int]]) -> Any:
        """Pads a batch to its longest sequence and runs it."""
        width = max(map(len, batch))
        tokens = np.full((len(batch), width), self._pad, np.int64)
        mask = np.zeros_like(tokens)
        for row, sequence in enumerate(batch):
            tokens[row, : len(sequence)] = sequence
            mask[row, : len(sequence)] = 1
        vectors = np.asarray(self.run(tokens, mask), np.float32)
        if not np.isfinite(vectors).all():
            raise ValueError("the engine's vectors hold values that are not numbers")
        return vectors

    def embed_documents(self, texts: Sequence[str], batch: int) -> Any:
        """Tokenizes as `Embedder` does, and runs texts of similar length together."""
        sequences = self._documents(texts)
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
        vectors: list[Any] = [None] * len(sequences)
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            for row, vector in zip(rows, self.embed([sequences[i] for i in rows]), strict=True):
                vectors[row] = vector
        return np.stack(vectors)

    def count(self, texts: Sequence[str]) -> tuple[list[int], int]:
        """Returns how many tokens each document is run with, and how many documents are cut."""
        plans = [self._plan(text) for text in texts]
        return [len(p.windows[0]) for p in plans], sum(p.truncated for p in plans)

    def facts(self) -> dict[str, Any]:
        """Returns versions, settings and the file that is read."""
        versions = {name: importlib.metadata.version(name) for name in self.packages}
        return {"versions": versions, "settings": self.settings, "file": self.file}

    def _documents(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._plan(text).windows[0] for text in texts]

    def _plan(self, text: str) -> Any:
        manifest = self._file.manifest
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(manifest.tokenizer, self._file.read(manifest.tokenizer.file))
        name = task_prompt_name(manifest.prompts, DOCUMENT_PROMPTS) or manifest.default_prompt_name
        prompt = manifest.prompts[name] if name else ""
        return plan(self._tokenizer, manifest, prompt, text, "truncate", index=0)


class OnnxPeer(TokenPeer):
    """A peer that runs the checkpoint's exported ONNX graph."""

    def prepare(self, checkpoint: str, directory: str) -> None:
        """Exports the checkpoint."""
        # Imported late, so that torch is not part of the measured process.
        from edge_embed_bench.peers.onnx_export import export

        export(checkpoint, directory)
