"""A checkpoint's files: reading JSON and text, and finding the weights, with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge_embed.errors import CheckpointError


def read_text(file: Path) -> str:
    """Returns a file's text.

    Raises:
        CheckpointError: If it cannot be read or is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot read {file}", got=str(error)) from error


def read_json(file: Path) -> Any:
    """Returns a file's content.

    Raises:
        CheckpointError: If it cannot be read or is not JSON.
    """
    try:
        return json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not valid JSON", got=str(error)) from error


def read_object(file: Path, what: str) -> dict[str, Any]:
    """Returns the object that a file holds.

    Args:
        file: The file.
        what: What it describes, for the message if it is missing.

    Raises:
        CheckpointError: If it is missing, cannot be read, or holds something else.
    """
    if not file.is_file():
        raise CheckpointError(
            f"{what} is missing", got=f"no {file}", fix="copy the whole checkpoint directory"
        )
    value = read_json(file)
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} is not a JSON object", got=type(value).__name__)
    return value


def read_optional(file: Path) -> dict[str, Any]:
    """Returns the object that a file holds, empty if there is no such file."""
    return read_object(file, file.name) if file.is_file() else {}


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
