"""What is indexed and asked: real texts and their vectors, grown by noise, with the true neighbours."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_embed import Embedder
from edge_embed.errors import InputError
from edge_embed.progress import progress_bar
from edge_embed.retrieval import Encoder
from edge_embed.similarity import top

Floats = npt.NDArray[np.float32]

NOISE = 0.2
"""Norm of the Gaussian noise that turns a unit vector into another of the same neighbourhood."""

SEED = 7
NEIGHBOURS = 10

_ROWS = 20_000
_EMBEDDED_TOGETHER = 2000


@dataclass(frozen=True)
class Workload:
    """A set of chunks with queries, in a directory.

    Attributes:
        directory: The directory of its files.
        chunks: How many chunks.
        dimension: Dimension of the vectors.
    """

    directory: Path
    chunks: int
    dimension: int

    @cached_property
    def vectors(self) -> Floats:
        """Unit vectors of the chunks, ``(chunks, dimension)``, mapped from the file."""
        mapped: Floats = np.load(self.directory / "chunks.npy", mmap_mode="r")
        return mapped

    @cached_property
    def queries(self) -> Floats:
        """Unit vectors of the queries, ``(queries, dimension)``."""
        loaded: Floats = np.load(self.directory / "queries.npy")
        return loaded

    @cached_property
    def truth(self) -> npt.NDArray[np.int64]:
        """The nearest chunks of each query by float32, ``(queries, 10)``."""
        loaded: npt.NDArray[np.int64] = np.load(self.directory / "truth.npy")
        return loaded

    @cached_property
    def texts(self) -> tuple[list[str], list[str]]:
        """The texts of the corpus, of which chunk ``i`` has number ``i % len``, and those of the queries."""
        content = json.loads((self.directory / "texts.json").read_text(encoding="utf-8"))
        return content["texts"], content["queries"]


def embed(
    model: Embedder, texts: Sequence[str], queries: Sequence[str], directory: Path
) -> tuple[Floats, Floats]:
    """Returns the vectors of texts and queries; they are kept in the directory and computed once.

    Args:
        model: The model.
        texts: Texts of the corpus.
        queries: Questions.
        directory: The directory in which vectors are kept.
    """
    key = hashlib.sha256(model.manifest.graph.sha256.encode())
    key.update(json.dumps([list(texts), list(queries)]).encode())
    kept = directory / f"vectors-{key.hexdigest()[:16]}.npz"
    if not kept.exists():
        parts = []
        with progress_bar(len(texts), "embedding the corpus") as advance:
            for start in range(0, len(texts), _EMBEDDED_TOGETHER):
                part = list(texts[start : start + _EMBEDDED_TOGETHER])
                parts.append(model.encode_document(part, show_progress_bar=False))
                advance(len(part))
        temporary = kept.with_suffix(".tmp.npz")
        np.savez(temporary, texts=np.concatenate(parts), queries=model.encode_query(list(queries)))
        temporary.rename(kept)
    with np.load(kept) as content:
        return content["texts"], content["queries"]


def make(
    directory: Path,
    texts: Sequence[str],
    queries: Sequence[str],
    vectors: tuple[Floats, Floats],
    chunks: int,
    dimension: int,
) -> Workload:
    """Writes a workload with a given number of chunks.

    The first chunks are the corpus; the others are the corpus again and again, each vector with Gaussian
    noise of norm 0.2 added and at unit length again. No query has noise.

    Args:
        directory: The directory to write into; it is made.
        texts: Texts of the corpus.
        queries: Questions, none of which is a text of the corpus.
        vectors: Vectors of the texts and of the questions.
        chunks: How many chunks.
        dimension: How many numbers of each vector are taken, from the first on.
    """
    if not len(texts) or not len(queries):
        raise InputError("a corpus and queries are needed to measure the index", got="none")
    directory.mkdir(parents=True, exist_ok=True)
    base, asked = (_unit(part[:, :dimension]) for part in vectors)
    if base.shape[1] < dimension:
        raise InputError(
            "dimension is larger than the model's vectors",
            got=str(dimension),
            expected=f"1 to {base.shape[1]}",
        )
    grown = np.lib.format.open_memmap(
        directory / "chunks.npy", mode="w+", dtype=np.float32, shape=(chunks, dimension)
    )
    rng = np.random.default_rng(SEED)
    for start in range(0, chunks, _ROWS):
        numbers = np.arange(start, min(start + _ROWS, chunks))
        rows = base[numbers % len(base)]
        noise = _unit(rng.standard_normal(rows.shape).astype(np.float32)) * NOISE
        grown[numbers] = _unit(np.where(numbers[:, None] < len(base), rows, rows + noise))
    grown.flush()
    np.save(directory / "queries.npy", asked)
    np.save(directory / "truth.npy", _nearest(grown, asked))
    (directory / "texts.json").write_text(
        json.dumps({"texts": list(texts), "queries": list(queries)}), encoding="utf-8"
    )
    return Workload(directory, chunks, dimension)


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit.astype(np.float32)


def _nearest(rows: Floats, queries: Floats) -> npt.NDArray[np.int64]:
    scores = np.full((len(queries), NEIGHBOURS), -np.inf, np.float32)
    found = np.zeros((len(queries), NEIGHBOURS), np.int64)
    with progress_bar(len(rows), "finding true neighbours", unit="chunk") as advance:
        for start in range(0, len(rows), _ROWS):
            part = queries @ rows[start : start + _ROWS].T
            numbers = np.broadcast_to(np.arange(start, start + part.shape[1]), part.shape)
            scores, found = np.hstack([scores, part]), np.hstack([found, numbers])
            order = top(scores, NEIGHBOURS)
            scores = np.take_along_axis(scores, order, 1)
            found = np.take_along_axis(found, order, 1)
            advance(part.shape[1])
    return found


class Given(Encoder):
    """An encoder that hands out a workload's vectors in the order of its chunks."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._next = 0

    def fingerprint(self) -> str:
        """Returns a name for the vectors."""
        return f"workload of {self._workload.chunks} chunks of {self._workload.dimension} numbers"

    def get_embedding_dimension(self) -> int:
        """Returns the dimension of the vectors."""
        return self._workload.dimension

    def encode_query(self, sentences: str, /) -> Floats:
        """Is never asked: searches bring their vectors."""
        raise InputError("queries of a workload have vectors", got=repr(sentences))

    def encode_document(self, sentences: list[str], /, *, titles: Sequence[str | None] | None) -> Floats:
        """Returns the vectors of the next chunks."""
        start, self._next = self._next, self._next + len(sentences)
        return self._workload.vectors[start : self._next]
