"""A table of nine pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_embed_train.data import Source, build_table

from .rows import PAIRS, nothing, write


@pytest.fixture
def table(tmp_path: Path) -> Any:
    return build_table("pairs", Source(path=write(tmp_path / "d.jsonl", PAIRS)), tmp_path / "data", nothing)
