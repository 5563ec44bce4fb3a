"""Folders into an index: new, changed, unchanged, gone, and files that cannot be read."""

import json

import pytest

from edge_embed import Index
from edge_embed.errors import InputError


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "mars.md").write_text("# Mars\n\nThe red planet.\n")
    (folder / "bread.txt").write_text("Dough rises beside the stove.")
    rows = [{"id": "a", "text": "Phobos", "size": 22}, {"id": "b", "text": "Deimos", "size": 12}]
    (folder / "moons.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def counts(result):
    added = result.added
    return added.new, added.changed, added.unchanged, result.removed, result.gone


def test_files_are_named_from_the_folder_of_the_index(index, notes, monkeypatch):
    result = index.add_files([notes])
    assert (result.files, counts(result)) == (3, (4, 0, 0, 0, 0))
    assert set(index.ids()) == {
        "notes/mars.md",
        "notes/bread.txt",
        "notes/moons.jsonl#a",
        "notes/moons.jsonl#b",
    }
    assert index.get("notes/mars.md").title == "Mars"
    assert index.get("notes/mars.md").metadata == {"path": "notes/mars.md", "format": "markdown"}
    hit = index.search("red planet", 1, mode="text")[0]
    assert index.get(hit.document_id).text[hit.start : hit.end] == hit.text == "# Mars\n\nThe red planet."
    monkeypatch.chdir(notes)
    assert counts(index.add_files(["."])) == (0, 0, 4, 0, 0)
    assert counts(index.add_files("mars.md")) == (0, 0, 1, 0, 0)


def test_only_what_changed_is_embedded_again(index, notes, stub):
    index.add_files([notes])
    before = stub.texts
    (notes / "bread.txt").write_text("Dough rises in the oven.")
    (notes / "new.md").write_text("A new one.")
    assert counts(index.add_files([notes])) == (1, 1, 3, 0, 0)
    assert stub.texts == before + 2


def test_what_is_gone_is_counted_and_removed_when_asked(index, notes):
    index.add_files([notes])
    index.add([{"id": "notes/by-hand", "text": "Not from a file."}])
    (notes / "bread.txt").unlink()
    (notes / "moons.jsonl").write_text(json.dumps({"id": "a", "text": "Phobos", "size": 22}))
    assert counts(index.add_files([notes])) == (0, 0, 2, 0, 2)
    assert counts(index.add_files([notes / "mars.md"], prune=True)) == (0, 0, 1, 0, 0)
    assert counts(index.add_files([notes], prune=True)) == (0, 0, 2, 2, 0)
    assert set(index.ids()) == {"notes/mars.md", "notes/moons.jsonl#a", "notes/by-hand"}
    assert counts(index.add_files([notes], exclude=["*.jsonl"], prune=True)) == (0, 0, 1, 1, 0)


def test_a_file_that_cannot_be_read_keeps_its_documents(index, notes):
    index.add_files([notes])
    (notes / "bread.txt").write_bytes(b"\xff\xfeD")
    (notes / "moons.jsonl").write_text('{"id": "a", "text": "Phobos", "size": 22}\nnot JSON')
    (notes / "photo.jpg").write_bytes(b"\xff\xd8")
    result = index.add_files([notes], prune=True)
    assert {s.path.name for s in result.skipped} == {"bread.txt", "moons.jsonl"}
    assert "line 2: not JSON" in next(s.reason for s in result.skipped if s.path.name == "moons.jsonl")
    assert result.unknown == {".jpg": 1}
    assert len(index) == 4


def test_one_bad_record_stops_its_file_and_no_other(index, notes):
    rows = [{"id": 1, "text": "one"}, {"id": 1, "text": "again"}]
    (notes / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (notes / "b.jsonl").write_text('{"id": "huge", "text": "x", "n": 1e999}')
    (notes / "c.jsonl").write_text('{"id": "' + "i" * 5000 + '", "text": "x"}')
    result = index.add_files([notes])
    reasons = {s.path.name: s.reason for s in result.skipped}
    assert "given twice" in reasons["a.jsonl"]
    assert set(reasons) == {"a.jsonl", "b.jsonl", "c.jsonl"}
    assert index.get("notes/a.jsonl#1").text == "one"
    assert result.files == 3


def test_an_interrupted_run_goes_on_where_it_stopped(index, notes, stub, monkeypatch):
    from edge_embed.retrieval import indexing

    monkeypatch.setattr(indexing, "GROUP_DOCUMENTS", 1)
    real, calls = stub.encode_document, []

    def stopping(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(stub, "encode_document", stopping)
    with pytest.raises(KeyboardInterrupt):
        index.add_files([notes])
    assert len(index) == 2
    assert counts(index.add_files([notes])) == (2, 0, 2, 0, 0)


def test_the_index_does_not_read_itself_and_paths_must_exist(path, stub, tmp_path, notes):
    with Index.open(path, stub) as index:
        assert index.add_files([tmp_path]).unknown == {}
        with pytest.raises(InputError, match="does not exist"):
            index.add_files([tmp_path / "nowhere"])
