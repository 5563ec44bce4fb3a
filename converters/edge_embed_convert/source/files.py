"""Reading a checkpoint's JSON and text files, with errors that name the file."""

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
