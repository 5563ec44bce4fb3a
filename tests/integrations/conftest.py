"""Adapters beside the libraries that they adapt to. `make test-integrations` runs these tests.

The libraries live in an environment of their own (see `constraints.txt` here). Where one is missing, nothing
of this folder is collected: `make test` needs none of them.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_embed import Embedder

LIBRARIES = (
    "langchain_tests",
    "llama_index",
    "haystack",
    "chromadb",
    "ray",
    "langchain_openai",
    "schemathesis",
)

os.environ.update(  # nothing leaves this machine
    HAYSTACK_TELEMETRY_ENABLED="False",
    ANONYMIZED_TELEMETRY="False",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_worker_niceness="0",  # on a busy machine workers would hardly run
    LANGSMITH_TRACING="false",
)

collect_ignore_glob = [] if all(map(importlib.util.find_spec, LIBRARIES)) else ["test_*.py"]


@pytest.fixture(scope="session")
def embedder(tiny_model: Path) -> Iterator[Embedder]:
    """The tiny model, loaded."""
    with Embedder(tiny_model, weight_cache="memory", num_threads=1) as model:
        yield model


@pytest.fixture
def texts() -> list[str]:
    """Some documents."""
    return ["the red planet mars", "water and stone", "seven small birds fly home", "green hills at night"]
