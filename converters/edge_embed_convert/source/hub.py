"""Finding a checkpoint: a directory as it is, or a hub id through huggingface_hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edge_embed.errors import CheckpointError

HUB_ID = re.compile(r"[\w.\-]+/[\w.\-]+")

WANTED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.md", "LICENSE*", "NOTICE*")

PICKLES = ("pytorch_model*.bin", "*/pytorch_model*.bin")
"""Fetched only where there are no safetensors: many repositories carry the same weights as both."""

UNWANTED = ("onnx/*", "openvino/*", "*/onnx/*", "*/openvino/*")
"""Copies of the weights in other formats: patterns cross directories, so these must be named."""


def fetch(source: str, revision: str | None = None) -> tuple[Path, str | None]:
    """Returns the directory of a checkpoint, and the hub commit if it was fetched.

    Args:
        source: A directory, or a hub id `owner/name`.
        revision: A branch, tag or commit of the hub repository.

    Raises:
        CheckpointError: If there is no such directory, or the hub does not hand it out.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return path, None
    if path.exists() or not HUB_ID.fullmatch(source) or source.startswith((".", "/", "~")):
        raise CheckpointError(
            "no such checkpoint",
            got=f"{source} is {'a file' if path.exists() else 'neither a directory nor a hub id'}",
            expected="a directory, or owner/name on the hub",
        )
    return _download(source, revision)


def _download(hub_id: str, revision: str | None) -> tuple[Path, str | None]:
    import huggingface_hub as hub  # half a second, and only hub ids need it
    from huggingface_hub import errors

    page = f"https://huggingface.co/{hub_id}"
    try:
        where = _snapshot(hub, hub_id, revision, WANTED)
        if not any(Path(where).rglob("*.safetensors")):
            where = _snapshot(hub, hub_id, revision, (*WANTED, *PICKLES))
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{hub_id} is gated: its owner asks you to accept a licence first",
            fix=f"accept it at {page}, run `hf auth login`, or pass a directory with the files",
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise CheckpointError(
            f"the hub has no {hub_id}" + (f" at revision {revision}" if revision else ""),
            fix="check the spelling; if it is private run `hf auth login`; or pass a directory",
        ) from error
    except errors.HFValidationError as error:
        raise CheckpointError(
            f"{hub_id} is not a hub id",
            got=str(error),
            fix="check the spelling, owner/name, or pass a directory",
        ) from error
    except _unreachable(errors) as error:
        raise CheckpointError(
            f"{hub_id} could not be fetched from the hub",
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            fix="connect to the network, or pass a directory with the files",
        ) from error
    return Path(where), Path(where).name


def _snapshot(hub: Any, hub_id: str, revision: str | None, patterns: tuple[str, ...]) -> str:
    return str(
        hub.snapshot_download(
            hub_id, revision=revision, allow_patterns=list(patterns), ignore_patterns=list(UNWANTED)
        )
    )


def _unreachable(errors: Any) -> tuple[type[Exception], ...]:
    """Returns what a failed download raises: also the HTTP library's own, which depends on the release."""
    return (OSError, errors.HfHubHTTPError, *errors.HfHubHTTPError.__bases__)
