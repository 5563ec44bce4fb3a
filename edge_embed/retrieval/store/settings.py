"""What an index remembers of its making: the model's fingerprint, the dimension, the chunking."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt

from edge_embed.errors import IndexFileError, IndexModelError, InputError


@runtime_checkable
class Encoder(Protocol):
    """What an index needs of a model. `Embedder` is one."""

    def encode_query(self, sentences: str, /) -> npt.NDArray[Any]:
        """Returns the vector of a query, ``(dimension,)``."""
        ...

    def encode_document(
        self, sentences: list[str], /, *, titles: Sequence[str | None] | None
    ) -> npt.NDArray[Any]:
        """Returns the vectors of texts with their titles, ``(n, dimension)``."""
        ...

    def get_embedding_dimension(self) -> int:
        """Returns the dimension of the vectors."""
        ...


@dataclass(frozen=True)
class Fingerprint:
    """What makes two models give the same vectors.

    Attributes:
        name: The model's name, for messages.
        graph: SHA-256 of the graph, or any other name of the exact model.
        tokenizer: SHA-256 of the tokenizer.
        prompts: SHA-256 of the prompts.
    """

    name: str
    graph: str
    tokenizer: str
    prompts: str

    @classmethod
    def of(cls, model: Encoder) -> Fingerprint:
        """Returns the fingerprint of an `Embedder`, or what another model's `fingerprint()` gives.

        Raises:
            InputError: If the model has none, or ranks by something else than the cosine.
        """
        manifest = getattr(model, "manifest", None)
        if manifest is not None:
            if manifest.similarity != "cosine" and not (manifest.similarity == "dot" and manifest.normalize):
                raise InputError(
                    "the index ranks by the cosine, and the model does not",
                    got=f"a model whose similarity is {manifest.similarity}",
                    expected="cosine, or dot of normalized vectors",
                )
            prompts = json.dumps(
                [sorted(manifest.prompts.items()), manifest.default_prompt_name, manifest.pooling],
                ensure_ascii=False,
            )
            return cls(
                f"{manifest.name} ({manifest.recipe.name})",
                manifest.graph.sha256,
                manifest.tokenizer.sha256,
                hashlib.sha256(prompts.encode()).hexdigest(),
            )
        describe = getattr(model, "fingerprint", None)
        if not callable(describe):
            raise InputError(
                "the model has no fingerprint, so its vectors cannot be kept in an index",
                got=type(model).__name__,
                expected="an Embedder, or a model with a method fingerprint() that returns a string",
            )
        name = str(describe())
        return cls(name, hashlib.sha256(name.encode()).hexdigest(), "", "")


@dataclass(frozen=True)
class Settings:
    """The choices made when an index was created.

    Attributes:
        model: The model's name.
        graph: As in `Fingerprint`.
        tokenizer: As in `Fingerprint`.
        prompts: As in `Fingerprint`.
        dimension: Dimension of the stored vectors.
        vectors: "int8", or "float32" for float32 beside int8.
        lexical: "words" or "trigrams"; "auto" until the first documents decide.
        chunk_tokens: The most tokens of a chunk.
        overlap: Tokens that neighbouring chunks share.
        model_path: Where the model file was last seen; empty if unknown.
    """

    model: str
    graph: str
    tokenizer: str
    prompts: str
    dimension: int
    vectors: str
    lexical: str
    chunk_tokens: int
    overlap: int
    model_path: str = ""

    @property
    def fingerprint(self) -> Fingerprint:
        """The model's part."""
        return Fingerprint(self.model, self.graph, self.tokenizer, self.prompts)

    def save(self, connection: sqlite3.Connection) -> None:
        """Writes all settings, inside the caller's transaction."""
        connection.executemany(
            "INSERT OR REPLACE INTO settings VALUES (?, ?)",
            [(name, str(value)) for name, value in asdict(self).items()],
        )

    @classmethod
    def load(cls, connection: sqlite3.Connection) -> Settings:
        """Reads all settings.

        Raises:
            IndexFileError: If one is missing or not of its type.
        """
        stored = dict(connection.execute("SELECT name, value FROM settings"))
        values: dict[str, Any] = {}
        for field in fields(cls):
            try:
                text = stored[field.name]
                values[field.name] = int(text) if field.type == "int" else str(text)
            except (KeyError, ValueError) as error:
                raise IndexFileError(
                    f"the setting {field.name!r} of the index is damaged",
                    got=repr(stored.get(field.name)),
                    fix="restore the file from a backup",
                ) from error
        settings = cls(**values)
        if settings.dimension < 1:
            raise IndexFileError("the dimension of the index is damaged", got=str(settings.dimension))
        return settings

    def require_same_vectors(self, stored: Settings) -> None:
        """Checks that settings read from the file now still ask for the vectors of these settings.

        Raises:
            IndexModelError: If another process changed them.
        """
        for name in ("graph", "tokenizer", "prompts", "dimension", "vectors", "chunk_tokens", "overlap"):
            if getattr(self, name) != getattr(stored, name):
                raise IndexModelError(
                    "another process has computed the index again with other settings",
                    got=f"{name} {getattr(stored, name)}",
                    expected=str(getattr(self, name)),
                    fix="open the index again, with its new model",
                )

    def require_model(self, model: Encoder) -> None:
        """Checks that a model is the one that the index was made with.

        Raises:
            IndexModelError: If it is another, also one of the same dimension.
        """
        mine, other = self.fingerprint, Fingerprint.of(model)
        different = [
            label
            for label, a, b in (
                ("the graph", mine.graph, other.graph),
                ("the tokenizer", mine.tokenizer, other.tokenizer),
                ("the prompts", mine.prompts, other.prompts),
            )
            if a != b
        ]
        size = model.get_embedding_dimension()
        if size < self.dimension:
            different.append(f"the dimension ({size} instead of {self.dimension})")
        if different:
            raise IndexModelError(
                "the index was made with another model",
                got=f"{other.name}; different: {', '.join(different)}",
                expected=self.model,
                fix="open it with that model, or compute all vectors again: Index.open(path).reindex(model), "
                "or edge_embed index --reindex",
            )


@dataclass(frozen=True)
class State:
    """The counters of an index file.

    Attributes:
        generation: Rises with every writing transaction.
        epoch: Rises when slots are numbered anew or the model is changed: memory must be filled again.
        next_slot: The slot of the next chunk.
        documents: How many documents there are.
        chunks: How many chunks there are.
        counted: How many chunks there were when common words were last counted.
    """

    generation: int
    epoch: int
    next_slot: int
    documents: int
    chunks: int
    counted: int

    @classmethod
    def load(cls, connection: sqlite3.Connection) -> State:
        """Reads the counters.

        Raises:
            IndexFileError: If the row is missing.
        """
        row = connection.execute(
            "SELECT generation, epoch, next_slot, documents, chunks, counted FROM state"
        ).fetchone()
        if row is None or not all(isinstance(value, int) and value >= 0 for value in row):
            raise IndexFileError("the counters of the index are damaged", got=repr(row))
        return cls(*row)

    def save(self, connection: sqlite3.Connection) -> None:
        """Writes the counters, inside the caller's transaction."""
        values: Mapping[str, int] = asdict(self)
        connection.execute("UPDATE state SET " + ", ".join(f"{name} = :{name}" for name in values), values)
