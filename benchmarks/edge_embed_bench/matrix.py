"""The matrix: every option is a list, and every combination is a cell."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edge_embed.errors import InputError
from edge_embed.model_file.file import ModelFile
from edge_embed.model_file.manifest import Manifest
from edge_embed_bench._files import sha256_of
from edge_embed_bench.record import Cell, ModelFacts

T = TypeVar("T")

SYNTHETIC_MARK = "synthetic"
"""The manifest's source of a random checkpoint starts with this; the checkpoint's directory does too."""


@dataclass(frozen=True)
class Model:
    """A model file to be measured, and what a record says of it."""

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


@dataclass(frozen=True)
class Axes:
    """The lists of a matrix, files and engines apart."""

    targets: Sequence[str]
    accelerators: Sequence[str]
    lengths: Sequence[int]
    threads: Sequence[int]
    batches: Sequence[int]

    def cells(self) -> Iterator[Cell]:
        """Yields every combination, the longest-lasting choice outermost."""
        for target, accelerator, threads, batch, length in itertools.product(
            self.targets, self.accelerators, self.threads, self.batches, self.lengths
        ):
            yield Cell(target, accelerator, length, threads, batch)


def check_lengths(models: Sequence[Model], lengths: Sequence[int] | None) -> list[int]:
    """Returns the lengths to measure: those given, or every length that all files have a bucket for.

    Raises:
        InputError: If one is beyond a file's maximum, or leaves no room for the special tokens.
    """
    if lengths is None:
        common = set.intersection(*(set(m.manifest.buckets) for m in models))
        limit = min(m.manifest.max_tokens for m in models)
        lengths = sorted(length for length in common if length <= limit)
        if not lengths:
            raise InputError("the files have no bucket in common", fix="choose lengths with --lengths")
    for model in models:
        record, most = model.manifest.tokenizer, model.manifest.max_tokens
        least = len(record.prefix_ids) + len(record.suffix_ids) + 1
        for length in lengths:
            if not least <= length <= most:
                raise InputError(
                    f"{model.path.name} cannot be measured at that length",
                    got=f"{length} tokens",
                    expected=f"{least} to {most}",
                    fix="choose other --lengths",
                )
    return unique(lengths)


def choose(kind: str, names: Sequence[str], known: Mapping[str, T]) -> list[T]:
    """Returns the entries of a table.

    Raises:
        InputError: If a name is not in it; the message lists those that are.
    """
    for name in names:
        if name not in known:
            raise InputError(f"unknown {kind}", got=repr(name), expected=", ".join(known))
    return [known[name] for name in unique(names)]


def is_synthetic(manifest: Manifest) -> bool:
    """Tells whether the weights are random, so that no figure speaks of quality."""
    return manifest.source.id.rsplit("/", 1)[-1].startswith(SYNTHETIC_MARK)


def unique(items: Sequence[T]) -> list[T]:
    """Returns the items in their order, each once."""
    return list(dict.fromkeys(items))
