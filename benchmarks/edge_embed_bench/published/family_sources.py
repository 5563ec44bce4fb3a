"""The checkpoints of the table of families: real ones, or random ones of each released shape.

A random checkpoint has fewer rows in its token table, because rows that no text asks for change neither
latency nor partitions. The tokenizer is of the released kind and has as many pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_embed_bench.synthetic.models import Shape, checkpoint_of
from edge_embed_bench.synthetic.tokenizers import (
    ROBERTA_SPECIAL,
    Files,
    bert_tokenizer_files,
    byte_level_tokenizer_files,
    gemma_tokenizer_files,
    unigram_tokenizer_files,
)
from edge_embed_convert.families import FAMILIES, Family
from edge_embed_convert.source.checkpoint import load

ROWS = 8192

DEPTH_KEYS = ("num_hidden_layers", "n_layers")
"""Entries of config.json that state the number of layers."""

_MODERN = {"cls_token": "[CLS]", "pad_token": "[PAD]", "eos_token": "[SEP]", "bos_token": "[CLS]"}
_QWEN = {"pad_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "bos_token": "<|im_end|>"}


@dataclass(frozen=True)
class Change:
    """What a family's random checkpoint has in place of its released tokenizer.

    Attributes:
        tokenizer: Makes the tokenizer's files from the number of rows.
        config: Entries of config.json: the special ids of that tokenizer.
    """

    tokenizer: Callable[[int], Files]
    config: Mapping[str, Any] = field(default_factory=dict)


_KINDS: dict[str, Change] = {
    "wordpiece": Change(bert_tokenizer_files),
    "gemma": Change(gemma_tokenizer_files),
    "unigram": Change(unigram_tokenizer_files),
}
_FAMILIES: dict[str, Change] = {
    "mpnet": Change(lambda rows: bert_tokenizer_files(rows, ROBERTA_SPECIAL)),
    "modernbert": Change(
        lambda rows: byte_level_tokenizer_files(rows, _MODERN, start=True),
        {"cls_token_id": 0, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "sep_token_id": 2},
    ),
    "qwen3": Change(
        lambda rows: byte_level_tokenizer_files(rows, _QWEN, start=False),
        {"eos_token_id": 0, "bos_token_id": 1},
    ),
}
"""Families whose tokenizer is not settled by its kind alone."""


@dataclass(frozen=True)
class Source:
    """One row of the table.

    Attributes:
        name: The row's name.
        family: The family.
        checkpoint: Gives the checkpoint, and makes a random one first.
        shape: The model whose shape it has.
        real: Whether the weights are real.
        rows: Rows of its token table.
        layers: Its number of layers and that of the released model; None for a model without layers.
        missing_table: Rows and columns of the part of the released token table that it does not have.
    """

    name: str
    family: Family
    checkpoint: Callable[[], Path]
    shape: str
    real: bool
    rows: int
    layers: tuple[int, int] | None
    missing_table: tuple[int, int] = (0, 0)


def real_source(name: str, directory: Path) -> Source:
    """Returns the row of a checkpoint on disk.

    Raises:
        CheckpointError: If it cannot be read.
    """
    checkpoint = load(directory)
    config = checkpoint.config
    layers = next((int(config[key]) for key in DEPTH_KEYS if key in config), None)
    return Source(
        name=name,
        family=checkpoint.family,
        checkpoint=lambda: directory,
        shape=name,
        real=True,
        rows=checkpoint.encoder.vocab_size,
        layers=(layers, layers) if layers else None,
    )


def random_source(
    family: Family, layers: int | None = None, changes: Mapping[str, Any] | None = None
) -> Source:
    """Returns the row of a random checkpoint of a family's released shape.

    Args:
        family: The family.
        layers: How many of its layers it has; by default all.
        changes: Other entries of config.json, for tests.
    """
    released = family.released
    change = _FAMILIES.get(family.name) or _KINDS[released.tokenizer]
    # A static model is its table, so that stays whole.
    rows = int(released.config["vocab_size"]) if family.without_transformers else ROWS
    config = {**released.config, "vocab_size": rows, **change.config, **(changes or {})}
    rows = config["vocab_size"]
    whole = int(released.config["vocab_size"])
    columns = next(t.shape[1] for t in released.tensors(released.config) if t.shape[0] == whole)
    key = next((key for key in DEPTH_KEYS if key in config), None)
    depth = None
    if key:
        depth = (layers or int(config[key]), int(config[key]))
        config[key] = depth[0]
    overrides = {k: v for k, v in config.items() if released.config.get(k) != v}
    shape = Shape(lambda: change.tokenizer(rows), family.name, family.default_recipe, overrides)
    return Source(
        name=family.name,
        family=family,
        checkpoint=lambda: checkpoint_of(family.name, shape),
        shape=released.name,
        real=False,
        rows=rows,
        layers=depth,
        missing_table=(whole - rows, columns),
    )


def sources(real: Mapping[str, Path], layers: Mapping[str, int]) -> list[Source]:
    """Returns the rows of the table: real checkpoints, and a random one for each family without a real one.

    Args:
        real: Checkpoints by the name of their row.
        layers: How many layers the random checkpoint of a family has, by the family's name.
    """
    given = [real_source(name, directory) for name, directory in real.items()]
    found: list[Source] = []
    for family in FAMILIES:
        own = [source for source in given if source.family is family]
        found += own or [random_source(family, layers.get(family.name))]
    return found
