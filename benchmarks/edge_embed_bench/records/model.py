"""A model file that is to be measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_embed.model_file.file import ModelFile
from edge_embed.model_file.manifest import Manifest
from edge_embed_bench.files import sha256_of
from edge_embed_bench.records.record import ModelFacts

SYNTHETIC_MARK = "synthetic"
"""The manifest's source of a random checkpoint starts with this; the checkpoint's directory does too."""


@dataclass(frozen=True)
class Model:
    """A model file to be measured, and the facts about it in a record."""

    path: Path
    manifest: Manifest
    facts: ModelFacts

    @classmethod
    def open(cls, path: Path) -> Model:
        """Reads the manifest and hashes the file.

        Raises:
            ModelFileError: If it is not a model of ours.
        """
        manifest = ModelFile.open(path).manifest
        facts = ModelFacts(
            name=manifest.name,
            file=path.name,
            sha256=sha256_of(path),
            recipe=manifest.recipe.name,
            parameters=manifest.architecture.parameters,
            dimension=manifest.dimension,
            buckets=manifest.buckets,
            synthetic=is_synthetic(manifest),
        )
        return cls(path, manifest, facts)


def is_synthetic(manifest: Manifest) -> bool:
    """Returns whether the weights are random, so that no figure says anything about quality."""
    return manifest.source.id.rsplit("/", 1)[-1].startswith(SYNTHETIC_MARK)
