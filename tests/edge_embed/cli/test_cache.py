"""The command `edge_embed cache`."""

from __future__ import annotations

import json
import os
import time

import pytest

from edge_embed import Embedder


@pytest.fixture
def filled(tiny_model, cache_directory):
    """A cache with the tiny model's weights, an old entry, a leftover and a subdirectory."""
    Embedder(tiny_model).close()
    (cache_directory / "old-1-x.weights").write_bytes(b"x" * 2_000_000)
    (cache_directory / "old.json").write_text(
        json.dumps({"weights": "old-1-x.weights", "model": "an old model"})
    )
    past = time.time() - 40 * 86_400
    os.utime(cache_directory / "old.json", (past, past))
    (cache_directory / "lost-1-x.weights").write_bytes(b"x")
    os.utime(cache_directory / "lost-1-x.weights", (1, 1))
    (cache_directory / "targets").mkdir()
    (cache_directory / "targets" / "big").write_bytes(b"x" * 3_000_000)
    return cache_directory


def test_list_and_size(run, filled):
    out = run("cache").out
    assert "an old model" in out
    assert "2.0 MB" in out
    assert "targets: 3.0 MB" in run("cache", "size").out
    (facts,) = [json.loads(run("cache", "--json").out)]
    assert len(facts["entries"]) == 2
    assert facts["other_bytes"] == {"targets": 3_000_000}


def test_prune(run, filled):
    assert "removed 0 models and 1 leftover files" in run("cache", "prune").out
    assert not (filled / "lost-1-x.weights").exists()
    assert "removed 1 models" in run("cache", "prune", "--unused-days", "30").out
    assert not (filled / "old.json").exists()
    facts = json.loads(run("cache", "prune", "--max-size", "0", "--json").out)
    assert len(facts["removed"]) == 1
    assert facts["entries"] == []


def test_clear_keeps_what_is_no_packed_weights(run, filled, tiny_model):
    assert "removed 2 models and 1 leftover files" in run("cache", "clear").out
    assert [path.name for path in filled.iterdir()] == ["targets"]
    Embedder(tiny_model).close()


@pytest.mark.parametrize("words", [("list", "--max-size", "1GB"), ("prune", "--max-size", "big"), ("burn",)])
def test_bad_usage(run, filled, words):
    assert run("cache", *words).code == 2
