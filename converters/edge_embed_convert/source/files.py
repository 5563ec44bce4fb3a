"""A checkpoint's files: reading JSON and text, and finding the weights, with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge_embed.errors import CheckpointError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "sentencepiece.bpe.model", "vocab.txt", "vocab.json")
"""The files one of which a tokenizer must have."""


def read_text(file: Path) -> str:
    """Returns a file's text.

    Raises:
        CheckpointError: If it cannot be read or is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read {file}", got=str(error)) from error


def read_json(file: Path, *, unique: bool = False) -> Any:
    """Returns a file's content.

    Args:
        file: The file.
        unique: Refuses an object that contains a key twice, of which JSON readers keep the last.

    Raises:
        CheckpointError: If it cannot be read or is not JSON.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise CheckpointError(
                f"{file} contains a key twice", got=", ".join(twice), fix="keep one entry for each name"
            )
        return dict(pairs)

    try:
        return json.loads(read_text(file), object_pairs_hook=once if unique else None)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not valid JSON", got=str(error)) from error


def read_object(file: Path, what: str, *, unique: bool = False) -> dict[str, Any]:
    """Returns the object that a file holds.

    Args:
        file: The file.
        what: What it describes, for the message if it is missing.
        unique: Refuses a key that is there twice.

    Raises:
        CheckpointError: If it is missing, cannot be read, or holds something else.
    """
    if not file.is_file():
        raise CheckpointError(
            f"{what} is missing", got=f"no {file}", fix="copy the whole checkpoint directory"
        )
    value = read_json(file, unique=unique)
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} is not a JSON object", got=type(value).__name__)
    return value


def read_optional(file: Path, *, unique: bool = False) -> dict[str, Any]:
    """Returns the object that a file holds, empty if there is no such file; see `read_object`."""
    return read_object(file, file.name, unique=unique) if file.is_file() else {}


def weight_files(directory: Path) -> list[Path]:
    """Returns the weight files of a module directory, safetensors first.

    Raises:
        CheckpointError: If there is none, or a shard that the index names is absent.
    """
    if (directory / "model.safetensors").is_file():
        return [directory / "model.safetensors"]
    shards = sorted(directory.glob("model-*-of-*.safetensors"))
    if shards:
        count = int(shards[0].stem.rsplit("-of-", 1)[1])
        if len(shards) != count:
            raise CheckpointError(
                f"shards of the weights are missing from {directory}",
                got=f"{len(shards)} files",
                expected=f"{count} files",
                fix="copy the whole directory",
            )
        return shards
    if (directory / "pytorch_model.bin").is_file():
        return [directory / "pytorch_model.bin"]
    raise CheckpointError(
        f"no weights in {directory}",
        expected="model.safetensors, model-*-of-*.safetensors or pytorch_model.bin",
        fix="pass the directory that save_pretrained wrote",
    )
