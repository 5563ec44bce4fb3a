"""Models that can be evaluated: model files and checkpoints in float32, with one protocol."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from edge_embed import Embedder
from edge_embed.errors import InputError
from edge_embed.extras import needs_extra
from edge_embed.model_file.file import ModelFile
from edge_embed.names import DOCUMENT_PROMPTS, QUERY_PROMPTS
from edge_embed.progress import progress_bar
from edge_embed.text.prompts import choose_prompt, task_prompt_name, with_titles

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from edge_embed_convert.source.checkpoint import Checkpoint, CheckpointOptions

Vectors = npt.NDArray[np.float32]

QUERY, DOCUMENT, STS, CLASSIFICATION, BITEXT = "query", "document", "STS", "Classification", "BitextMining"

ROLES = {
    QUERY: QUERY_PROMPTS,
    DOCUMENT: DOCUMENT_PROMPTS,
    STS: ("STS",),
    CLASSIFICATION: ("Classification",),
    BITEXT: ("BitextMining",),
}
"""Roles of texts, and the names of the prompts for them in released models (MTEB's task types)."""


@dataclass(frozen=True)
class Facts:
    """Facts about a model in a report.

    Attributes:
        label: Its name in reports.
        recipe: The file's recipe, or "source" for a checkpoint.
        bytes: The size of the file, or of a checkpoint's weight files.
        weights: Hash of the fp32 weights that it has or was made from.
    """

    label: str
    recipe: str
    bytes: int
    dimension: int
    similarity: str
    prompts: dict[str, str]
    default_prompt_name: str | None
    weights: str

    @property
    def exact(self) -> bool:
        """Whether these are the source's own numbers."""
        return self.recipe in ("source", "fp32")


class Model(Protocol):
    """A model that embeds whole texts, prompts included."""

    @property
    def facts(self) -> Facts:
        """What it is."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Returns one vector per text, ``(n, dimension)``; longer texts are truncated."""
        ...

    def close(self) -> None:
        """Releases it."""
        ...


class FileModel:
    """A model file, run by the runtime.

    Args:
        path: The file.
        label: Its name in reports.
        num_threads: Threads of one run.
    """

    def __init__(self, path: Path, label: str, num_threads: int | None = None) -> None:
        self.facts = _file_facts(path, label)
        self._embedder = Embedder(path, num_threads=num_threads)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Returns one vector per text, ``(n, dimension)``."""
        return self._embedder.encode(list(texts), prompt="")

    def close(self) -> None:
        """Releases the file."""
        self._embedder.close()


class CheckpointModel:
    """A checkpoint in float32, run by PyTorch.

    Args:
        checkpoint: The checkpoint that was read.
        label: Its name in reports.
    """

    def __init__(self, checkpoint: Checkpoint, label: str) -> None:
        with needs_extra("convert", "evaluating a checkpoint"):
            from edge_embed_convert.source.reference import Reference  # torch, only for checkpoints

            self._reference: Reference | None = Reference(checkpoint)
        self.facts = _checkpoint_facts(checkpoint, label)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Returns one vector per text, ``(n, dimension)``."""
        if self._reference is None:
            raise InputError(f"the checkpoint {self.facts.label} is closed", fix="open it again")
        vectors = np.empty((len(texts), self.facts.dimension), np.float32)
        with progress_bar(len(texts), "embedding with the source") as advance:
            for index, text in enumerate(texts):
                vectors[index] = self._reference.embed_tokens(self._reference.tokenize(text))
                advance(1)
        return vectors

    def close(self) -> None:
        """Lets go of the weights."""
        self._reference = None


class Candidate:
    """A model that exists and is loaded when it is needed.

    Args:
        spec: A model file, a checkpoint directory, or a hub id.
        label: Its name in reports.
        num_threads: Threads of one run.
        **options: What the checkpoint leaves open.

    Raises:
        ModelFileError: If it is a file and not one of ours.
        CheckpointError: If it is neither a file nor a readable checkpoint.
    """

    def __init__(
        self, spec: str, label: str, num_threads: int | None = None, **options: Unpack[CheckpointOptions]
    ) -> None:
        path = Path(spec).expanduser()
        self._path, self._threads = path, num_threads
        self._checkpoint: Checkpoint | None = None
        if path.is_file() or path.suffix == ".tflite":
            self.facts = _file_facts(path, label)
        else:
            with needs_extra("convert", "evaluating a checkpoint"):
                from edge_embed_convert.source.checkpoint import load  # torch, only for checkpoints

                self._checkpoint = load(spec, **options)
                self.facts = _checkpoint_facts(self._checkpoint, label)

    def open(self) -> Model:
        """Loads it."""
        if self._checkpoint is not None:
            return CheckpointModel(self._checkpoint, self.facts.label)
        return FileModel(self._path, self.facts.label, self._threads)


class Embeddings:
    """Embeds the texts of a run, each one once, and measures the time.

    Args:
        model: The model that embeds.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._known: dict[str, Vectors] = {}
        self.seconds, self.texts = 0.0, 0

    def __call__(self, texts: Sequence[str], role: str, titles: Sequence[str] | None = None) -> Vectors:
        """Returns the vectors of texts under the prompt of their role, ``(n, dimension)``.

        Args:
            texts: The texts.
            role: One of `ROLES`.
            titles: One per document, empty if it has none.
        """
        facts = self._model.facts
        name = task_prompt_name(facts.prompts, ROLES[role])
        prompt = choose_prompt(facts.prompts, None, name, facts.default_prompt_name)
        leads, bodies = with_titles(texts, prompt, titles)
        whole = [lead + body for lead, body in zip(leads, bodies, strict=True)]
        new = list(dict.fromkeys(text for text in whole if text not in self._known))
        if new:
            started = time.perf_counter()
            vectors = self._model.encode(new)
            self.seconds += time.perf_counter() - started
            self.texts += len(new)
            self._known.update(zip(new, vectors, strict=True))
        return np.stack([self._known[text] for text in whole])


def label_all(specs: Sequence[str]) -> list[str]:
    """Returns a short label for each model: the last part of its name, or all of it if that is ambiguous.

    Raises:
        InputError: If one is named twice.
    """
    if len(set(specs)) < len(specs):
        twice = next(spec for spec in specs if specs.count(spec) > 1)
        raise InputError("a model is named twice", got=twice, fix="name each model once")
    names = [Path(spec).name or spec for spec in specs]
    return [name if names.count(name) == 1 else spec for name, spec in zip(names, specs, strict=True)]


def _file_facts(path: Path, label: str) -> Facts:
    manifest = ModelFile.open(path).manifest
    return Facts(
        label,
        manifest.recipe.name,
        path.stat().st_size,
        manifest.dimension,
        manifest.similarity,
        manifest.prompts,
        manifest.default_prompt_name,
        manifest.source.sha256,
    )


def _checkpoint_facts(checkpoint: Checkpoint, label: str) -> Facts:
    from edge_embed_convert.source.files import weight_files

    places = [checkpoint.transformer_path, *(layer.path for layer in checkpoint.dense)]
    size = sum(file.stat().st_size for place in places for file in weight_files(place))
    return Facts(
        label,
        "source",
        size,
        checkpoint.dimension,
        checkpoint.similarity,
        checkpoint.prompts,
        checkpoint.default_prompt_name,
        checkpoint.weights_sha256(),
    )
