"""`edge_embed index` and `edge_embed search` on a real, tiny model file."""

import json
import shutil

import pytest

from edge_embed.cli.search import parse_where
from edge_embed.errors import InputError


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "mars.md").write_text("# mars\n\nthe red planet\n\n## water\n\nriver of stone\n")
    (folder / "birds.txt").write_text("seven small birds fly home before night falls")
    return folder


@pytest.fixture
def indexed(run, tiny_model, notes, tmp_path):
    path = tmp_path / "notes.db"
    result = run("index", tiny_model, notes, "--into", path)
    assert result.code == 0
    assert f"{path}: 2 new, 0 changed, 0 unchanged, 0 removed; 2 documents in" in result.out
    return path


def test_index_again_does_nothing_and_prune_removes(run, tiny_model, notes, indexed):
    (notes / "birds.txt").unlink()
    (notes / "bad.txt").write_bytes(b"\xff")
    (notes / "photo.jpg").write_bytes(b"\xff")
    result = run("index", tiny_model, notes, "--into", indexed)
    assert "0 new, 0 changed, 1 unchanged, 0 removed" in result.out
    assert "1 documents are in the index whose files are gone" in result.out
    assert "bad.txt: not UTF-8: byte 0xff at 0" in result.out
    assert "unknown: .jpg 1" in result.out
    (summary,) = run("index", tiny_model, notes, "--into", indexed, "--prune", "--json").lines
    assert (summary["removed"], summary["unchanged"], summary["documents"], summary["files"]) == (1, 1, 1, 1)
    assert summary["skipped"][0]["reason"].startswith("not UTF-8")


def test_search_prints_places_and_marks(run, indexed):
    result = run("search", indexed, "red", "planet", "--mode", "text")
    assert result.code == 0
    first, second = result.out.splitlines()
    assert first.split()[:1] == ["1"]
    assert "notes/mars.md:1  mars" in first
    assert "**red** **planet**" in second
    hits = run("search", indexed, "birds fly home", "-k", "1", "--json").lines
    assert [hit["document_id"] for hit in hits] == ["notes/birds.txt"]
    assert hits[0]["text"][hits[0]["start"] :].startswith("seven")
    nothing = run("search", indexed, "xylophone", "--mode", "text")
    assert (nothing.code, nothing.out, "nothing found" in nothing.err) == (0, "", True)
    assert (
        run("search", indexed, "birds", "--where", "format=markdown", "--json", "--mode", "text").lines == []
    )


def test_search_prints_a_context(run, indexed):
    result = run("search", indexed, "birds", "--mode", "text", "--context", "30")
    assert result.out.startswith("[1] birds (notes/birds.txt)\nseven small")
    (context,) = run("search", indexed, "birds", "--mode", "text", "--context", "30", "--json").lines
    assert context["tokens"] <= 30
    assert context["passages"][0]["document_id"] == "notes/birds.txt"


def test_the_model_may_be_moved_and_named(run, tiny_model, tmp_path, notes):
    model = shutil.copy(tiny_model, tmp_path / "model.tflite")
    run("index", model, notes, "--into", tmp_path / "notes.db")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("model.tflite", "notes.db"):
        shutil.move(tmp_path / name, moved / name)
    assert run("search", moved / "notes.db", "red planet").code == 0
    shutil.move(moved / "model.tflite", tmp_path / "other.tflite")
    lost = run("search", moved / "notes.db", "red planet")
    assert (lost.code, "--model" in lost.err) == (2, True)
    assert run("search", moved / "notes.db", "red planet", "--mode", "text").code == 0
    assert run("search", moved / "notes.db", "red planet", "--model", tmp_path / "other.tflite").code == 0


def test_another_model_or_other_chunks_need_reindex(
    run, tiny_sentencepiece_model, tiny_model, notes, indexed
):
    refused = run("index", tiny_sentencepiece_model, notes, "--into", indexed)
    assert (refused.code, "--reindex" in refused.err) == (2, True)
    (summary,) = run("index", tiny_sentencepiece_model, "--into", indexed, "--reindex", "--json").lines
    assert summary["documents"] == 2
    assert run("search", indexed, "red planet").code == 0
    (summary,) = run(
        "index",
        tiny_sentencepiece_model,
        notes,
        "--into",
        indexed,
        "--reindex",
        "--chunk-tokens",
        "8",
        "--json",
    ).lines
    assert (summary["unchanged"], summary["new"]) == (2, 0)
    more = summary["total_chunks"]
    assert more > 3
    refused = run("index", tiny_sentencepiece_model, notes, "--into", indexed, "--chunk-tokens", "9")
    assert refused.code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--into", "x.db"], "nothing to index"),
        (["nowhere", "--into", "x.db"], "does not exist"),
        (["--reindex", "--into", "x.db"], "no index"),
        (["--chunk-tokens", "5000", ".", "--into", "x.db"], "at most"),
    ],
)
def test_index_refuses(run, tiny_model, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    result = run("index", tiny_model, *words)
    assert (result.code, message in result.err) == (2, True)


def test_search_refuses(run, tmp_path):
    (tmp_path / "x.db").write_text("no database")
    assert run("search", tmp_path / "none.db", "x").code == 2
    assert not (tmp_path / "none.db").exists()
    assert run("search", tmp_path / "x.db", "x").code == 2


@pytest.mark.parametrize(
    ("filters", "where"),
    [
        ([], None),
        (["lang=en"], {"lang": "en"}),
        (["lang=en", "lang=de"], {"lang": ["en", "de"]}),
        (["year>=2020", "year<2024"], {"year": {"gte": 2020, "lt": 2024}}),
        (["author?", "ok=true"], {"author": {"exists": True}, "ok": True}),
        (['{"a": [1, 2]}', "b = x y"], {"a": [1, 2], "b": "x y"}),
        (["version=1.2.3"], {"version": "1.2.3"}),
    ],
)
def test_filters(filters, where):
    assert parse_where(filters) == where


@pytest.mark.parametrize("text", ["", "lang", "=en", "author?x", "{nope", json.dumps([1])])
def test_filters_that_cannot_be_read(text):
    with pytest.raises(InputError):
        parse_where([text])
