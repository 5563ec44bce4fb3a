"""The weight cache: shared between processes, rebuilt when damaged, and never believed blindly."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed.engine import weight_cache
from edge_embed.engine.base import Engine
from edge_embed.errors import ModelFileError, RuntimeFailure, SelfCheckError, WeightCacheWarning
from edge_embed.model_file.file import ModelFile

TEXT = "the red planet"


def entries(directory):
    """Returns the only record and the only weights file of a cache directory."""
    (record,) = directory.glob("*.json")
    (weights,) = directory.glob("*.weights")
    assert len(os.listdir(directory)) == 2
    return record, weights


@pytest.fixture
def expected(tiny_model):
    with Embedder(tiny_model, weight_cache="memory") as model:
        return model.encode(TEXT)


@pytest.fixture
def filled(tiny_model, cache_directory):
    """A cache that holds the tiny model's packed weights."""
    Embedder(tiny_model).close()
    return cache_directory


@pytest.fixture
def packings(monkeypatch):
    """Counts how often weights are packed into the cache."""
    calls = []
    original = weight_cache._open_and_pack
    monkeypatch.setattr(weight_cache, "_open_and_pack", lambda *a: calls.append(a) or original(*a))
    return calls


@pytest.fixture
def hashings(monkeypatch):
    """Counts how often a graph is hashed."""
    calls = []
    original = ModelFile.verify_graph
    monkeypatch.setattr(ModelFile, "verify_graph", lambda self: calls.append(self) or original(self))
    return calls


def test_first_load_packs_and_second_neither_packs_nor_hashes(
    tiny_model, cache_directory, expected, packings, hashings
):
    with Embedder(tiny_model) as model:
        assert np.array_equal(model.encode(TEXT), expected)
    record, weights = entries(cache_directory)
    assert weights.stat().st_size > 0
    assert (len(packings), len(hashings)) == (1, 1)
    before = record.read_bytes(), weights.stat()
    with Embedder(tiny_model) as model:
        assert np.array_equal(model.encode(TEXT), expected)
    assert (len(packings), len(hashings)) == (1, 1)
    assert (record.read_bytes(), weights.stat().st_mtime_ns) == (before[0], before[1].st_mtime_ns)


def test_running_other_buckets_leaves_the_weights_file_alone(tiny_model, filled):
    _, weights = entries(filled)
    before = weights.read_bytes()
    with Embedder(tiny_model) as model:
        model.encode([TEXT, TEXT * 3, TEXT * 6])
    assert weights.read_bytes() == before


def test_a_copy_of_the_file_is_hashed_once_and_shares_the_entry(
    tiny_model, filled, tmp_path, packings, hashings
):
    copy = tmp_path / "copy.tflite"
    copy.write_bytes(tiny_model.read_bytes())
    for _ in range(3):
        Embedder(copy).close()
        Embedder(tiny_model).close()
    assert (len(packings), len(hashings)) == (0, 1)
    entries(filled)


def test_a_damaged_file_with_the_same_manifest_is_not_believed(tiny_model, filled, tmp_path):
    content = bytearray(tiny_model.read_bytes())
    content[len(content) // 3] ^= 4
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(content)
    for options in ({}, {"weight_cache": "memory"}, {"self_check": False}):
        with pytest.raises(ModelFileError, match="damaged"):
            Embedder(damaged, **options)


def flip(path, place, bit=4):
    """Flips one bit and leaves the file's times as they were, as a failing disk would."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_flipped_bit_in_the_weights_is_noticed_by_the_probe_or_changes_nothing(
    tiny_model, filled, expected, packings
):
    size = entries(filled)[1].stat().st_size
    for step in range(24):
        _, weights = entries(filled)
        flip(weights, (step * size // 24 + 6) // 4 * 4 + 2)  # a high bit of a float32's fraction
        with Embedder(tiny_model) as model:
            assert np.array_equal(model.encode(TEXT), expected)
    # The rest of the file is its directory and the padding of tiles.
    assert len(packings) > 8


def test_a_weights_file_that_was_written_to_is_rebuilt_whatever_it_holds(
    tiny_model, filled, expected, packings
):
    for content in (b"", b"garbage" * 1000, None):
        _, weights = entries(filled)
        weights.write_bytes(weights.read_bytes()[:-1] if content is None else content)
        with Embedder(tiny_model) as model:
            assert np.array_equal(model.encode(TEXT), expected)
    assert len(packings) == 3


def test_without_a_self_check_damaged_weights_are_noticed_as_well(tiny_model, filled, expected, packings):
    _, weights = entries(filled)
    status = weights.stat()
    weights.write_bytes(b"\xa5" * status.st_size)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    with Embedder(tiny_model, self_check=False) as model:
        assert np.array_equal(model.encode(TEXT), expected)
    assert len(packings) == 1


def test_garbage_of_the_recorded_size_and_time(tiny_model, filled, expected):
    _, weights = entries(filled)
    status = weights.stat()
    weights.write_bytes(b"\xa5" * status.st_size)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    with Embedder(tiny_model) as model:
        assert np.array_equal(model.encode(TEXT), expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: b"",
        lambda record: b"\xff\0garbage",
        lambda record: b"[]",
        lambda record: json.dumps(record | {"schema": 2}).encode(),
        lambda record: json.dumps({k: v for k, v in record.items() if k != "files"}).encode(),
        lambda record: json.dumps(record | {"weights": "../../etc/passwd"}).encode(),
        lambda record: json.dumps(record | {"weights": 3}).encode(),
        lambda record: json.dumps(record | {"answer": None}).encode(),
        lambda record: json.dumps(record | {"files": [{"size": 1}]}).encode(),
        lambda record: json.dumps(record | {"state": 5}).encode(),
    ],
)
def test_a_damaged_record_is_rebuilt(tiny_model, filled, expected, packings, change):
    record, _ = entries(filled)
    record.write_bytes(change(json.loads(record.read_text())))
    with Embedder(tiny_model) as model:
        assert np.array_equal(model.encode(TEXT), expected)
    assert len(packings) == 1


def test_a_directory_of_garbage_is_left_alone(tiny_model, cache_directory, expected):
    (cache_directory / "notes.txt").write_text("mine")
    (cache_directory / "x.weights").write_bytes(b"junk")
    (cache_directory / "x.json").mkdir()
    with Embedder(tiny_model) as model:
        assert np.array_equal(model.encode(TEXT), expected)
    assert (cache_directory / "notes.txt").read_text() == "mine"
    assert (cache_directory / "x.weights").exists()


def test_a_missing_directory_is_made_and_private(tiny_model, tmp_path):
    directory = tmp_path / "deep" / "cache"
    Embedder(tiny_model, weight_cache=directory).close()
    entries(directory)
    assert directory.stat().st_mode & 0o077 == 0


def test_a_directory_that_cannot_be_made_is_a_warning(tiny_model, tmp_path, expected):
    (tmp_path / "file").write_text("in the way")
    for directory in (tmp_path / "file", tmp_path / "file" / "cache"):
        with pytest.warns(WeightCacheWarning, match="EDGE_EMBED_CACHE") as caught:
            model = Embedder(tiny_model, weight_cache=directory)
        assert len(caught) == 1
        assert caught[0].filename == __file__
        assert np.array_equal(model.encode(TEXT), expected)


def test_a_read_only_directory_is_a_warning(tiny_model, cache_directory, expected, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(weight_cache.Entry, "reserve", refuse)  # permissions do not bind root
    with pytest.warns(WeightCacheWarning, match="Permission denied"):
        model = Embedder(tiny_model)
    assert np.array_equal(model.encode(TEXT), expected)
    assert os.listdir(cache_directory) == []


def test_a_read_only_directory_with_an_entry_is_used(tiny_model, filled, tmp_path, monkeypatch, packings):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    copy = tmp_path / "copy.tflite"
    copy.write_bytes(tiny_model.read_bytes())
    monkeypatch.setattr(weight_cache.Entry, "store", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Embedder(copy).close()
    assert packings == []


def test_a_full_disk_while_the_record_is_written(tiny_model, cache_directory, expected, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge_embed.engine.weight_cache.os.fsync", full)
    with pytest.warns(WeightCacheWarning, match="No space left"):
        model = Embedder(tiny_model)
    assert np.array_equal(model.encode(TEXT), expected)
    assert os.listdir(cache_directory) == []


def test_no_warning_and_no_file_for_who_asks_for_memory(tiny_model, cache_directory):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Embedder(tiny_model, weight_cache="memory").close()
    assert os.listdir(cache_directory) == []


def test_a_backend_that_answers_otherwise_is_refused_and_leaves_no_entry(
    tiny_model, cache_directory, monkeypatch
):
    run = Engine.run
    monkeypatch.setattr(Engine, "run", lambda self, length, ids: run(self, length, ids)[::-1].copy())
    with pytest.raises(SelfCheckError, match="cosine") as caught:
        Embedder(tiny_model)
    assert "at least 0.9999" in str(caught.value)
    with pytest.raises(SelfCheckError):
        Embedder(tiny_model, weight_cache="memory")
    assert os.listdir(cache_directory) == []
    Embedder(tiny_model, weight_cache="memory", self_check=False).close()


def test_a_good_entry_does_not_hide_a_broken_backend(tiny_model, filled, monkeypatch):
    run = Engine.run
    monkeypatch.setattr(Engine, "run", lambda self, length, ids: run(self, length, ids)[::-1].copy())
    with pytest.raises(SelfCheckError):
        Embedder(tiny_model)


def test_an_entry_made_without_self_check_proves_nothing(tiny_model, cache_directory, monkeypatch):
    run = Engine.run
    monkeypatch.setattr(Engine, "run", lambda self, length, ids: run(self, length, ids)[::-1].copy())
    Embedder(tiny_model, self_check=False).close()
    with pytest.raises(SelfCheckError):
        Embedder(tiny_model)


def test_a_backend_that_fails_on_the_cache_gets_a_fresh_one(tiny_model, filled, monkeypatch, packings):
    run, failures = Engine.run, [RuntimeFailure("the cache is bad")]

    def fail_once(self, length, ids):
        if failures:
            raise failures.pop()
        return run(self, length, ids)

    monkeypatch.setattr(Engine, "run", fail_once)
    Embedder(tiny_model).close()
    assert len(packings) == 1


def test_old_orphans_are_swept_and_young_ones_kept(tiny_model, filled, packings):
    record, _ = entries(filled)
    key = record.stem
    (filled / f"{key}-1-old.weights").write_bytes(b"x")
    os.utime(filled / f"{key}-1-old.weights", (1, 1))
    (filled / f"{key}-2-young.weights").write_bytes(b"x")
    record.unlink()
    Embedder(tiny_model).close()
    assert not (filled / f"{key}-1-old.weights").exists()
    assert (filled / f"{key}-2-young.weights").exists()


def test_keys_follow_content_and_not_path(tiny_manifest, monkeypatch):
    from dataclasses import replace

    key = weight_cache.entry_key(tiny_manifest)
    assert key == weight_cache.entry_key(replace(tiny_manifest, name="renamed"))
    other = replace(tiny_manifest, graph=replace(tiny_manifest.graph, sha256="1" * 64))
    assert weight_cache.entry_key(other) != key
    for fact in ("_processor", "library_version"):
        with monkeypatch.context() as patch:
            patch.setattr(weight_cache, fact, lambda: "another")
            assert weight_cache.entry_key(tiny_manifest) != key


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert weight_cache.default_directory() == Path(os.environ["EDGE_EMBED_CACHE"])
    monkeypatch.setenv("EDGE_EMBED_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weight_cache.default_directory() == tmp_path / "edge_embed"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert weight_cache.default_directory() == tmp_path / ".cache" / "edge_embed"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert weight_cache.default_directory() == tmp_path / "Library" / "Caches" / "edge_embed"
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert weight_cache.default_directory() is None


def test_no_home_directory_is_a_warning(tiny_model, monkeypatch):
    monkeypatch.setattr(weight_cache, "default_directory", lambda: None)
    with pytest.warns(WeightCacheWarning, match="no home directory"):
        Embedder(tiny_model).close()


LOADER = """
import sys
from edge_embed import Embedder
model = Embedder(sys.argv[1])
sys.stdin.readline()
print(model.encode("the red planet").tobytes().hex())
"""


def test_processes_that_load_the_same_new_file_at_once(tiny_model, cache_directory, expected):
    command = [sys.executable, "-W", "error", "-c", LOADER, str(tiny_model)]
    running = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        for _ in range(4)
    ]
    for process in running:
        out, err = process.communicate("\n", timeout=60)
        assert (process.returncode, err) == (0, "")
        assert out.strip() == expected.tobytes().hex()
    (record,) = cache_directory.glob("*.json")
    assert (cache_directory / json.loads(record.read_text())["weights"]).exists()
    assert not list(cache_directory.glob(".*"))
