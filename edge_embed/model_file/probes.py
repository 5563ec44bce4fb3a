"""The texts that a model file was verified with."""

from __future__ import annotations

import json
from dataclasses import dataclass

from edge_embed.errors import ModelFileError
from edge_embed.model_file.manifest import Vector, decode_vector
from edge_embed.model_file.schema import from_json
from edge_embed.names import PROBES_NAME


@dataclass(frozen=True)
class Probe:
    """A text that the file was verified with, and the fp32 source's answer.

    Attributes:
        text: The text, without its prompt.
        prompt_name: The prompt that went before it.
        tokens: Its ids, special tokens included.
        length: The bucket it ran in.
        embedding: The source's vector, as `encode_vector` writes it.
    """

    text: str
    prompt_name: str | None
    tokens: list[int]
    length: int
    embedding: str

    @property
    def vector(self) -> Vector:
        """The source's embedding, shape ``(dimension,)``."""
        return decode_vector(self.embedding)


@dataclass(frozen=True)
class _Probes:
    probes: list[Probe]


def read_probes(content: bytes) -> list[Probe]:
    """Returns the probes of a model file.

    Args:
        content: Its member of that name.

    Raises:
        ModelFileError: If a field is missing or has another type.
        ValueError: If it is not JSON.
    """
    probes: list[Probe] = from_json(_Probes, json.loads(content), PROBES_NAME, error=ModelFileError).probes
    return probes
