"""The manifest: the single source of everything a runtime must know about a model file.

It is the zip member `edge_embed.json`. Python, Kotlin and JavaScript read the same fields; nobody
parses a file name. `schema` says which changes keep older files readable.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_embed.errors import ManifestError
from edge_embed.model_file.schema import NOT_STORED, Unknown, from_json, to_json
from edge_embed.model_file.upgrade import SCHEMA_VERSION, upgrade
from edge_embed.names import SIMILARITIES, TOKENIZER_KINDS

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Source:
    """Where the weights came from: hub id or directory name, revision, and a hash of the weight files."""

    id: str
    revision: str | None
    sha256: str


@dataclass(frozen=True)
class Architecture:
    """The encoder family and its exact configuration, as converted."""

    family: str
    parameters: int
    config: dict[str, Any]


@dataclass(frozen=True)
class RecipeRecord:
    """The quantization recipe: its name, its grammar spelling, and every group's scheme in full."""

    name: str
    spec: str
    groups: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Graph:
    """The flatbuffer at the start of the file: its size in bytes, its hash, whether float16 is safe."""

    bytes: int
    sha256: str
    fp16_safe: bool


@dataclass(frozen=True)
class TokenizerRecord:
    """How text becomes ids: the zip member, its kind, and the ids put around and after the text.

    `vocab_size` counts the rows of the embedding table, which may be more than the tokenizer has pieces.
    `sees_padding_tokens` says whether the model sees a padding token that a text spells, as it does in
    sentence-transformers; where it is false, the graph takes that token for padding.
    """

    file: str
    kind: str  # one of `names.TOKENIZER_KINDS`
    sha256: str
    lowercase: bool
    pad_id: int
    prefix_ids: list[int]
    suffix_ids: list[int]
    vocab_size: int
    sees_padding_tokens: bool = False


@dataclass(frozen=True)
class Licence:
    """The checkpoint's licence by name, and the zip members that contain its text."""

    name: str | None = None
    files: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SelfCheck:
    """A probe for load time: token ids (before padding), the file's own answer, the least cosine allowed."""

    tokens: list[int]
    embedding: str
    min_cosine: float

    @property
    def vector(self) -> Vector:
        """The expected embedding, shape ``(dimension,)``."""
        return decode_vector(self.embedding)


@dataclass(frozen=True)
class BucketParity:
    """Agreement with the source over the probes that ran in one bucket."""

    length: int
    probes: int
    cosine_mean: float
    cosine_min: float


@dataclass(frozen=True)
class Parity:
    """The report of the comparison with the fp32 source that preceded saving.

    `neighbours` is the mean share of common members between the nearest neighbours of each probe
    according to the file and according to the source. `passed` is false only in a file that the user
    insisted on saving.
    """

    passed: bool
    failures: list[str]
    probes: int
    cosine_mean: float
    cosine_min: float
    norm_error_max: float
    non_finite: int
    zero_vectors: int
    token_mismatches: int
    neighbours: float
    neighbours_k: int
    thresholds: dict[str, float]
    buckets: list[BucketParity]


@dataclass(frozen=True)
class Manifest:
    """Everything a runtime must know. See the field types for the parts.

    Attributes:
        unknown_fields: Fields of the JSON that this version does not know. They are written again.
    """

    name: str
    source: Source
    architecture: Architecture
    recipe: RecipeRecord
    graph: Graph
    buckets: list[int]
    max_tokens: int
    pooling: list[str]
    normalize: bool
    dimension: int
    matryoshka_dimensions: list[int]
    similarity: str
    prompts: dict[str, str]
    default_prompt_name: str | None
    tokenizer: TokenizerRecord
    licence: Licence
    tools: dict[str, str]
    parity: Parity
    self_check: SelfCheck
    schema_version: int = SCHEMA_VERSION
    unknown_fields: Unknown = field(default_factory=dict, repr=False, metadata=NOT_STORED)

    def to_dict(self) -> dict[str, Any]:
        """Returns the manifest as a dictionary that `json.dumps` takes."""
        return to_json(self, self.unknown_fields)

    def to_json(self) -> str:
        """Returns the manifest as JSON text with a trailing newline, stable between runs."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Parses and checks manifest text.

        Raises:
            ManifestError: If it is not JSON, of a newer schema, or a field is missing or of the wrong type.
        """
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ManifestError(
                "the manifest is not valid JSON", got=str(error), fix="convert the model again"
            ) from error
        if not isinstance(raw, dict):
            raise ManifestError("the manifest is not a JSON object", got=type(raw).__name__)
        unknown: Unknown = {}
        manifest: Manifest = from_json(
            cls,
            upgrade(raw),
            "the manifest",
            error=ManifestError,
            fix="convert the model again",
            unknown=unknown,
        )
        manifest = dataclasses.replace(manifest, unknown_fields=unknown)
        manifest._check()
        return manifest

    def _check(self) -> None:
        problems = []
        if not self.buckets or self.buckets != sorted(set(self.buckets)) or self.buckets[0] < 1:
            problems.append(f"buckets must be ascending positive lengths, not {self.buckets}")
        elif not 0 < self.max_tokens <= self.buckets[-1]:
            problems.append(f"max_tokens {self.max_tokens} exceeds the largest bucket {self.buckets[-1]}")
        elif not 0 < len(self.self_check.tokens) <= self.buckets[-1]:
            problems.append("the self-check probe does not fit into any bucket")
        elif len(self.tokenizer.prefix_ids) + len(self.tokenizer.suffix_ids) >= self.max_tokens:
            problems.append("the special tokens leave no room for text")
        if self.dimension < 1 or any(not 0 < d <= self.dimension for d in self.matryoshka_dimensions):
            problems.append(f"dimensions out of range: {self.dimension}, {self.matryoshka_dimensions}")
        elif self.self_check.vector.shape != (self.dimension,):
            problems.append("the self-check vector does not have the model's dimension")
        if self.tokenizer.kind not in TOKENIZER_KINDS:
            problems.append(f"unknown tokenizer kind {self.tokenizer.kind!r}")
        record = self.tokenizer
        ids = {record.pad_id, *record.prefix_ids, *record.suffix_ids, *self.self_check.tokens}
        if outside := sorted(i for i in ids if not 0 <= i < record.vocab_size):
            problems.append(f"token ids outside the vocabulary of {record.vocab_size}: {outside}")
        if self.similarity not in SIMILARITIES:
            problems.append(f"unknown similarity {self.similarity!r}")
        if not 0 < self.self_check.min_cosine <= 1:
            problems.append(f"the self-check's least cosine is {self.self_check.min_cosine}, not in (0, 1]")
        if problems:
            raise ManifestError(
                "the manifest is inconsistent", got="; ".join(problems), fix="convert the model again"
            )


def encode_vector(vector: npt.ArrayLike) -> str:
    """Returns base64 of little-endian float32, exact."""
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode("ascii")


def decode_vector(text: str) -> Vector:
    """Returns the float32 vector that `encode_vector` wrote.

    Raises:
        ManifestError: If the text is not base64 of whole float32 numbers.
    """
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float32)
    except ValueError as error:
        raise ManifestError("a vector in the file is damaged", got=str(error)) from error
