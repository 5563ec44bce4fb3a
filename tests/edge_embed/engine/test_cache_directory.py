"""The cache directory: trust, one packing at a time, sweeping, and limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed.engine import cache_directory as cache
from edge_embed.engine import weight_cache
from edge_embed.errors import InputError, WeightCacheWarning

TEXT = "the red planet"


@pytest.fixture(autouse=True)
def no_warning_was_given(monkeypatch):
    monkeypatch.setattr(weight_cache, "_warned", set())


@pytest.fixture
def expected(tiny_model):
    with Embedder(tiny_model, weight_cache="memory") as model:
        return model.encode(TEXT)


def test_six_processes_that_load_a_new_file_leave_one_weights_file(tiny_model, cache_directory):
    code = "import sys; from edge_embed import Embedder; Embedder(sys.argv[1]).encode('the red planet')"
    command = [sys.executable, "-W", "error", "-c", code, str(tiny_model)]
    running = [subprocess.Popen(command) for _ in range(6)]
    assert [process.wait() for process in running] == [0] * 6
    assert len(list(cache_directory.glob("*.weights"))) == 1
    assert len(os.listdir(cache_directory)) == 2


def test_a_process_that_hangs_does_not_stop_the_others(tiny_model, cache_directory, monkeypatch, expected):
    monkeypatch.setattr(cache, "LOCK_SECONDS", 0.2)
    held, finish = threading.Event(), threading.Event()

    def hold():
        with cache.packing_lock(cache_directory):
            held.set()
            finish.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    with Embedder(tiny_model) as model:
        assert np.array_equal(model.encode(TEXT), expected)
    finish.set()
    thread.join()


def test_every_load_sweeps_what_killed_processes_left_of_any_model(tiny_model, cache_directory):
    Embedder(tiny_model).close()
    for name in ("other-1-x.weights", ".other.1-x.tmp"):
        (cache_directory / name).write_bytes(b"x")
        os.utime(cache_directory / name, (1, 1))
    (cache_directory / "other-2-young.weights").write_bytes(b"x")
    Embedder(tiny_model).close()
    left = {path.name for path in cache_directory.iterdir()}
    assert "other-2-young.weights" in left
    assert not left & {"other-1-x.weights", ".other.1-x.tmp"}


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_directory_that_others_may_write_to_is_not_used(tiny_model, cache_directory, expected, mode):
    Embedder(tiny_model).close()
    cache_directory.chmod(mode)
    before = {path: path.stat().st_mtime_ns for path in cache_directory.iterdir()}
    with pytest.warns(WeightCacheWarning, match="other users may write to it"):
        model = Embedder(tiny_model)
    assert np.array_equal(model.encode(TEXT), expected)
    model.close()
    assert {path: path.stat().st_mtime_ns for path in cache_directory.iterdir()} == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Embedder(tiny_model).close()  # the process was warned already


def test_a_directory_of_another_user_is_not_used(tiny_model, cache_directory, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    status = cache_directory.stat()
    if status.st_uid == 0:
        os.chown(cache_directory, 12345, -1)
    with pytest.warns(WeightCacheWarning, match="belongs to user"):
        Embedder(tiny_model).close()
    assert os.listdir(cache_directory) == []


@pytest.fixture
def three(tmp_path):
    """A directory with entries a, b and c of about 1000 bytes, used in this order."""
    for age, key in enumerate("cba"):
        (tmp_path / f"{key}-1-x.weights").write_bytes(b"x" * 1000)
        (tmp_path / f"{key}.json").write_text(
            json.dumps({"weights": f"{key}-1-x.weights", "model": key.upper()})
        )
        used = time.time() - 100 * age - 10
        os.utime(tmp_path / f"{key}.json", (used, used))
    return tmp_path


def test_entries_come_most_recently_used_first(three):
    (three / "broken.json").write_text("{")
    (three / "hostile.json").write_text('{"weights": "../../etc/passwd"}')
    assert [(entry.key, entry.model) for entry in cache.entries(three)] == [
        ("c", "C"),
        ("b", "B"),
        ("a", "A"),
    ]
    assert cache.entries(three / "absent") == []


def test_eviction_takes_the_longest_unused_and_keeps_what_it_must(three):
    assert [entry.key for entry in cache.evict(three, 10_000)] == []
    assert [entry.key for entry in cache.evict(three, 2_200)] == ["a"]
    assert [entry.key for entry in cache.evict(three, 0, keep="b")] == ["c"]
    assert sorted(path.name for path in three.iterdir()) == ["b-1-x.weights", "b.json"]


def test_the_limit_of_the_environment_holds_after_a_model_was_packed(tiny_model, three, monkeypatch):
    monkeypatch.setenv("EDGE_EMBED_CACHE", str(three))
    monkeypatch.setenv(cache.LIMIT_VARIABLE, "1KB")
    Embedder(tiny_model).close()
    (entry,) = cache.entries(three)  # the model in use stays, whatever its size
    assert entry.model
    monkeypatch.setenv(cache.LIMIT_VARIABLE, "big")
    with pytest.raises(InputError, match="EDGE_EMBED_CACHE_SIZE is not a size"):
        Embedder(tiny_model)


def test_loading_marks_an_entry_as_used(tiny_model, cache_directory):
    Embedder(tiny_model).close()
    (record,) = cache_directory.glob("*.json")
    os.utime(record, (1, 1))
    Embedder(tiny_model).close()
    assert record.stat().st_mtime > 1


@pytest.mark.parametrize(
    ("text", "size"), [("1000", 1000), ("2GB", 2 * 10**9), ("1.5 MiB", 3 * 2**19), ("7kb", 7000)]
)
def test_sizes(text, size):
    assert cache.parse_size(text, "x") == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "1e9", "2 PB", "1 2"])
def test_sizes_that_are_none(text):
    with pytest.raises(InputError, match="x is not a size"):
        cache.parse_size(text, "x")
