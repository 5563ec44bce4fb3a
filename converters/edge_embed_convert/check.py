"""Check: what a conversion would do, from the checkpoint's configuration alone. Needs no PyTorch.

Sizes are estimates from the shapes that the configuration implies; all-MiniLM-L6-v2 under `int8` is within
2 % of its file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import Unpack

from edge_embed.errors import CheckpointError
from edge_embed_convert.buckets import buckets_for
from edge_embed_convert.choices import choose_recipe
from edge_embed_convert.recipes.grammar import Recipe, Scheme
from edge_embed_convert.source.checkpoint import Checkpoint, CheckpointOptions, load
from edge_embed_convert.source.files import TOKENIZER_FILES, weight_files
from edge_embed_convert.source.modules import Dense, LayerNorm

RUNTIME_BYTES = 45_000_000
"""What Python, NumPy and LiteRT need beside a model."""

CONVERTER_BYTES, WEIGHT_COPIES, TABLE_COPIES = 800_000_000, 11, 5.5
"""What a conversion needs beside the weights, and how many times it holds them in float32: those of the
layers and those of the token table. Highest resident memory: all-MiniLM-L6-v2 (11 and 12 million weights)
1.5 GB, multilingual-e5-small (21 and 96) 3.6 GB, all-mpnet-base-v2 (85 and 23) 4.9 GB with `fp32` and 5.0 GB
with `int8`. EmbeddingGemma-300M (107 and 201) took 5.6 GB, less than this gives."""


@dataclass(frozen=True)
class Plan:
    """What a conversion would make.

    Attributes:
        name: The model's name.
        family: The family that covers the checkpoint.
        model_type: What config.json calls the architecture.
        parameters: Number of weights.
        recipe: Name of the recipe.
        spec: The recipe as the grammar spells it.
        buckets: Input lengths.
        max_tokens: The longest input.
        dimension: Length of the embedding.
        pooling: Pooling modes.
        prompts: Prompts by name.
        default_prompt_name: The default prompt.
        file_bytes: Estimated size of the file.
        memory_bytes: Estimated private memory of a process that runs the longest input; the weights come on
            top, but are shared between processes.
        conversion_bytes: Estimated memory of the conversion, rather too high than too low.
        notes: What the user should know.
    """

    name: str
    family: str
    model_type: str
    parameters: int
    recipe: str
    spec: str
    buckets: list[int]
    max_tokens: int
    dimension: int
    pooling: list[str]
    prompts: dict[str, str]
    default_prompt_name: str | None
    file_bytes: int
    memory_bytes: int
    conversion_bytes: int
    notes: list[str]


def check(
    source: str | Path,
    *,
    recipe: str | None = None,
    buckets: Sequence[int] | None = None,
    name: str | None = None,
    **options: Unpack[CheckpointOptions],
) -> Plan:
    """Returns how a checkpoint would be converted. Reads its configuration, but no weights.

    Args:
        source: As for `convert`, like what follows.
        recipe: The recipe.
        buckets: Input lengths.
        name: The model's name.
        **options: See `checkpoint.CheckpointOptions`.

    Raises:
        CheckpointError: If the checkpoint cannot be converted, as far as its configuration tells.
        RecipeError: If the recipe is unknown.
    """
    checkpoint = load(source, **options)
    chosen = choose_recipe(checkpoint, recipe)
    lengths = buckets_for(checkpoint.max_tokens, buckets)
    tokenizer = _tokenizer_bytes(checkpoint.transformer_path)
    for place in (checkpoint.transformer_path, *(layer.path for layer in checkpoint.dense)):
        weight_files(place)
    parameters, stored, table = _sizes(checkpoint, chosen)
    config = checkpoint.config
    longest, hidden = lengths[-1], checkpoint.encoder.hidden_size
    inner = int(config.get("intermediate_size", 4 * hidden))
    heads = int(config.get("num_attention_heads", 1))
    activations = 4 * longest * (6 * hidden + 2 * inner + heads * longest)
    return Plan(
        name=name or checkpoint.id.rsplit("/", 1)[-1],
        family=checkpoint.family.name,
        model_type=str(config["model_type"]),
        parameters=parameters,
        recipe=chosen.name,
        spec=chosen.spec,
        buckets=lengths,
        max_tokens=checkpoint.max_tokens,
        dimension=checkpoint.dimension,
        pooling=list(checkpoint.pooling),
        prompts=checkpoint.prompts,
        default_prompt_name=checkpoint.default_prompt_name,
        file_bytes=stored + tokenizer,
        memory_bytes=RUNTIME_BYTES + tokenizer + activations,
        conversion_bytes=CONVERTER_BYTES
        + 4 * round(WEIGHT_COPIES * (parameters - table) + TABLE_COPIES * table),
        notes=list(checkpoint.notes),
    )


def _tokenizer_bytes(directory: Path) -> int:
    """Returns the size of the tokenizer's file.

    Raises:
        CheckpointError: If there is none.
    """
    for name in TOKENIZER_FILES:
        if (directory / name).is_file():
            return (directory / name).stat().st_size
    raise CheckpointError(
        f"{directory} has no tokenizer",
        got="none of the files",
        expected=" or ".join(TOKENIZER_FILES),
        fix="copy the tokenizer's files from the original checkpoint",
    )


def _sizes(checkpoint: Checkpoint, recipe: Recipe) -> tuple[int, int, int]:
    """Returns the number of weights, their bytes under a recipe, and how many are in the token table."""
    parameters = stored = table = 0
    for tensor in checkpoint.family.released.tensors(checkpoint.config):
        count = math.prod(tensor.shape)
        parameters += count
        if len(tensor.shape) < 2:
            stored += 4 * count
        elif tensor.shape[0] == checkpoint.encoder.vocab_size:
            stored += stored_bytes(tensor.shape, recipe.embedding)
            table += count
        elif "embed" in tensor.name:
            stored += 2 * count  # tables of positions and token types are stored in float16
        else:
            attention = "attention" in tensor.name or "attn" in tensor.name
            stored += stored_bytes(tensor.shape, recipe.attention if attention else recipe.feed_forward)
    for module in checkpoint.head:
        if isinstance(module, Dense):
            shapes = [(module.out_features, module.in_features)] * (1 + module.projects_residual)
            parameters += sum(map(math.prod, shapes)) + module.bias * module.out_features
            stored += sum(stored_bytes(shape, recipe.projection) for shape in shapes)
        elif isinstance(module, LayerNorm):
            parameters += 2 * module.dimension
            stored += 8 * module.dimension
    return parameters, stored, table


def stored_bytes(shape: Sequence[int], scheme: Scheme) -> int:
    """Returns how many bytes a weight takes, its scales included."""
    rows, columns = shape
    if scheme.block:
        return rows * columns * scheme.bits // 8 + rows * (columns // scheme.block) * 2
    return rows * columns * scheme.bits // 8 + (4 * rows if scheme.integer else 0)
