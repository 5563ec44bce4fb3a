"""Static models: one vector for each token, and a text's vector is their mean.

Two layouts hold one: the StaticEmbedding module of sentence-transformers, and a directory of model2vec
(potion), where tokens may share rows and have weights of their own. What is computed is what
sentence-transformers computes from either: every token counts, unknown ones too, nothing is put around a
text, and only the length that tokenizer.json itself names cuts it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_embed.errors import CheckpointError
from edge_embed_convert.source.files import read_json, read_object, weight_files

MODEL_TYPE = "static"
"""What the configuration says that is made here; neither layout has one of its own that says it."""

LONGEST = 1_000_000
"""The longest input in tokens where tokenizer.json names none: sentence-transformers has no limit."""

TABLE, ROWS, MAPPING, WEIGHTS = "embedding.weight", "embeddings", "mapping", "weights"
"""Tensors: the table as sentence-transformers saves it, and model2vec's rows, their numbers by token, and the
weights of tokens."""

FLOATS = ("F64", "F32", "F16", "BF16")


def static_config(directory: Path) -> dict[str, Any]:
    """Returns the configuration that the files of a static model imply.

    It knows one id more than the table has tokens; that one pads, so that a text may hold every token.

    Args:
        directory: Directory of the weights and of tokenizer.json.

    Raises:
        CheckpointError: If the table is missing or is not one of float numbers.
    """
    shapes = _shapes(directory)
    name = TABLE if TABLE in shapes else ROWS
    if name not in shapes or len(shapes[name][1]) != 2:
        raise CheckpointError(
            f"no table of token vectors in {directory}",
            got=", ".join(f"{tensor} {shape}" for tensor, (_, shape) in shapes.items()) or "no tensors",
            expected=f"{TABLE} or {ROWS}, with rows and columns",
            fix="copy the directory again; a static model keeps its vectors in model.safetensors",
        )
    for tensor in (name, WEIGHTS):
        if tensor in shapes and shapes[tensor][0] not in FLOATS:
            raise CheckpointError(
                f"{tensor} is stored in integers, whose scale is not known",
                got=shapes[tensor][0],
                expected=" or ".join(FLOATS),
                fix="use the checkpoint in float32 or float16; the recipe quantizes it",
            )
    rows, columns = shapes[name][1]
    folded = name == ROWS
    tokens = shapes[MAPPING][1][0] if folded and MAPPING in shapes else rows
    return {
        "model_type": MODEL_TYPE,
        "vocab_size": tokens + 1,
        "hidden_size": columns,
        "max_position_embeddings": _longest(directory),
        "pad_token_id": tokens,
        "rows": rows,
        "mapped": folded and MAPPING in shapes,
        "weighted": folded and WEIGHTS in shapes,
    }


def is_model2vec(config: Mapping[str, Any]) -> bool:
    """Returns whether a config.json is model2vec's."""
    return config.get("model_type") == "model2vec" or config.get("architectures") == ["StaticModel"]


def _shapes(directory: Path) -> dict[str, tuple[str, list[int]]]:
    """Returns the type and the shape of every tensor, without PyTorch."""
    (file, *more) = weight_files(directory)
    if more or file.suffix != ".safetensors":
        raise CheckpointError(
            f"the weights of the static model in {directory} are not in a single safetensors file",
            got=file.name,
            expected="model.safetensors",
            fix="save it again with safetensors",
        )
    try:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(size, file.stat().st_size)))
        return {k: (v["dtype"], list(v["shape"])) for k, v in header.items() if k != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"the weight file {file} cannot be read",
            got=str(error)[:200],
            fix="download it again; a Git LFS pointer is not the file itself",
        ) from error


def _longest(directory: Path) -> int:
    spec = read_object(directory / "tokenizer.json", "the tokenizer of a static model")
    truncation = spec.get("truncation") or {}
    length = truncation.get("max_length", LONGEST)
    if not isinstance(length, int) or length < 1:
        raise CheckpointError(
            f"{directory / 'tokenizer.json'} does not state a usable length to cut texts at",
            got=f"max_length = {length!r}",
            expected="a positive number",
        )
    if truncation.get("direction", "Right") != "Right":
        raise CheckpointError(
            f"{directory / 'tokenizer.json'} cuts texts at their beginning",
            got=f"direction = {truncation['direction']!r}",
            expected="'Right'",
        )
    return length


def read_static_tokenizer(directory: Path) -> Any:
    """Returns the tokenizer of `tokenizers` that a static model is run with, nothing put around a text.

    Raises:
        CheckpointError: If it cannot be read.
    """
    from tokenizers import Tokenizer

    file = directory / "tokenizer.json"
    spec = read_json(file)
    try:
        spec["post_processor"] = spec["padding"] = spec["truncation"] = None
        return Tokenizer.from_str(json.dumps(spec))
    # Its errors are bare Exceptions.
    except Exception as error:
        raise CheckpointError(
            f"{file} cannot be read",
            got=str(error)[:300],
            fix="copy it again (a Git LFS pointer or a cut download looks like this)",
        ) from error
