"""Commands without a MODEL take the one that comes with the package, and say so."""

from __future__ import annotations

import json
import shutil
import sqlite3

import numpy as np
import pytest

from edge_embed import Embedder, Index
from edge_embed.cli import options
from edge_embed.default_model import NAME, PATH

TEXTS = ["the red planet", "green hills, small birds"]
SAID = f"edge_embed: model: {NAME}, which comes with the package\n"


def test_the_file_is_whole_and_small():
    with Embedder() as model:
        assert model.path == PATH.resolve()
        assert model.manifest.name == NAME
        vectors = model.encode(["a man plays the guitar", "someone plays an instrument", "the sea is cold"])
        scores = np.asarray(model.similarity(vectors, vectors))
        assert scores[0, 1] > scores[0, 2]
    assert PATH.stat().st_size <= 5_000_000


def test_texts_alone(run):
    result = run("embed", *TEXTS)
    assert (result.code, result.err) == (0, SAID)
    with Embedder() as model:
        assert np.array_equal(np.float32([x["embedding"] for x in result.lines]), model.encode(TEXTS))


def test_a_named_model_is_taken_without_a_word(run, tiny_model):
    result = run("similarity", tiny_model, "red planet", *TEXTS, "--json")
    assert (result.code, result.err) == (0, "")
    assert len(result.lines[0]["results"]) == 2


def test_a_model_is_known_by_its_content_too(run, tiny_model, tmp_path):
    plain = tmp_path / "model"
    shutil.copy(tiny_model, plain)
    result = run("embed", plain, "red")
    assert (result.code, result.err, len(result.lines)) == (0, "", 1)


@pytest.mark.parametrize("verb", ["inspect", "verify"])
def test_commands_with_a_model_alone(run, verb, tmp_path):
    result = run(verb, "--json")
    assert (result.code, result.err) == (0, SAID)
    assert json.loads(result.out)
    missing = run(verb, tmp_path / "no-such-file")  # without words that follow, it can only be a model
    assert missing.code == 2
    assert "no-such-file" in missing.err


def test_a_mistyped_model_is_an_error(run):
    result = run("embed", "modle.tflite", "red")
    assert result.code == 2
    assert "modle.tflite" in result.err


def test_an_index_without_a_model_named(run, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "bread.md").write_text("# Bread\nThe dough rests for twelve hours.\n")
    indexed = run("index", notes, "--into", tmp_path / "notes.db", "--json")
    assert (indexed.code, indexed.err) == (0, SAID)
    found = run("search", tmp_path / "notes.db", "how long does the dough rest?", "--json")
    assert found.code == 0
    assert "bread.md" in found.out
    (line, _) = run("search", tmp_path / "notes.db", "how long does the dough rest?").out.splitlines()
    assert float(line.split()[1]) == pytest.approx(found.lines[0]["vector_score"], abs=1e-4)


def test_an_index_keeps_its_own_model(run, tiny_model, tmp_path):
    (tmp_path / "bread.md").write_text("# Bread\nThe dough rests for twelve hours.\n")
    database = tmp_path / "notes.db"
    assert run("index", tiny_model, tmp_path / "bread.md", "--into", database).code == 0
    again = run("index", tmp_path / "bread.md", "--into", database, "--json")
    assert (again.code, again.err, again.lines[0]["unchanged"]) == (0, "", 1)


def test_an_index_of_the_default_model_moves_between_machines(tmp_path, monkeypatch):
    with Index.open(tmp_path / "notes.db") as index:
        index.add([{"id": "bread", "text": "The dough rests for twelve hours."}])
        assert index.model_path == PATH
    with sqlite3.connect(tmp_path / "notes.db") as database:
        elsewhere = str(tmp_path / "elsewhere" / PATH.name)
        database.execute("UPDATE settings SET value = ? WHERE value LIKE ?", [elsewhere, f"%{PATH.name}%"])
    with Index.open(tmp_path / "notes.db") as index:
        assert index.search("how long does the dough rest?")[0].document_id == "bread"


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x00" * 8])
def test_other_files_are_no_models(tmp_path, content):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    assert not options._is_model(str(path))
    assert not options._is_model(str(tmp_path))
    assert not options._is_model("a\0b")
