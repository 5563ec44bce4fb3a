"""Checkpoints to damage, and what a refusal must look like."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_embed.errors import CheckpointError
from edge_embed_convert.pipeline import convert


@pytest.fixture
def gemma(gemma_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(gemma_checkpoint, tmp_path / "gemma")


@pytest.fixture
def bert(bert_checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bert_checkpoint, tmp_path / "bert")


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., CheckpointError]:
    """Converts, and checks that it is refused in words of ours, with a fix, and leaves nothing."""

    def check(directory: Path | str, *words: str, fix: bool = True, **options: Any) -> CheckpointError:
        out = tmp_path / "out"
        out.mkdir()
        with pytest.raises(CheckpointError) as caught:
            convert(directory, out, **options)
        message = str(caught.value)
        assert all(word in message for word in words), message
        assert caught.value.fix or caught.value.expected or not fix, message
        assert list(out.iterdir()) == []
        return caught.value

    return check
