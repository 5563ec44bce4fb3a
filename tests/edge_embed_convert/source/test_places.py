"""Places and hub ids that are no checkpoint."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from huggingface_hub import errors as hub_errors

from edge_embed_convert.source.checkpoint import load

# Releases of huggingface_hub stand on different releases of this library.
httpx = importlib.import_module(hub_errors.HfHubHTTPError.__mro__[1].__module__.partition(".")[0])


def test_no_such_directory(refused, tmp_path) -> None:
    refused(tmp_path / "nothing", "nothing", "neither a directory nor a hub id", "owner/name")


def test_a_file(refused, bert) -> None:
    refused(bert / "model.safetensors", "model.safetensors", "a file", "a directory")


def test_an_empty_directory(refused, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "not a checkpoint", "neither modules.json nor config.json")


@pytest.mark.parametrize("source", ["a b/c", "", "owner/name/more", "./nothing", "../up/there", "~/nothing"])
def test_neither_path_nor_hub_id(source, refused) -> None:
    if source == "":
        return  # the working directory
    refused(source, "no such checkpoint", "owner/name")


def _response(status: int) -> Any:
    return httpx.Response(
        status, request=httpx.Request("GET", "https://huggingface.co/api/models/owner/name")
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            hub_errors.GatedRepoError("403 gated", response=_response(403)),
            ("owner/name is gated", "https://huggingface.co/owner/name", "hf auth login", "directory"),
        ),
        (
            hub_errors.RepositoryNotFoundError("404", response=_response(404)),
            ("no owner/name", "spelling", "hf auth login", "directory"),
        ),
        (hub_errors.RevisionNotFoundError("404", response=_response(404)), ("at revision v9",)),
        (
            hub_errors.HfHubHTTPError("500 server error", response=_response(500)),
            ("could not be fetched", "500 server error", "network", "directory"),
        ),
        (hub_errors.LocalEntryNotFoundError("no local copy"), ("no local copy", "network")),
        (hub_errors.OfflineModeIsEnabled("offline mode"), ("offline mode", "network")),
        (httpx.ConnectError("no route to host"), ("no route to host", "network")),
        (OSError("disk on fire"), ("disk on fire",)),
        (hub_errors.HFValidationError("bad repo id"), ("bad repo id",)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_hub_refusals(error, words, monkeypatch, refused) -> None:
    def download(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    refused("owner/name", "owner/name", "to fix it", *words, revision="v9")


def test_hub_checkpoint(monkeypatch, bert, tmp_path) -> None:
    snapshot = bert.rename(tmp_path / ("c0ffee" * 6 + "abcd"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(snapshot))
    checkpoint = load("owner/name")
    assert (checkpoint.id, checkpoint.revision, checkpoint.path) == ("owner/name", snapshot.name, snapshot)
