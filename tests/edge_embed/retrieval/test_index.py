"""The index as its users see it."""

from __future__ import annotations

import asyncio
import os
import threading

import numpy as np
import pytest

from edge_embed import Embedder, Index
from edge_embed.errors import IndexFileError, IndexModelError, InputError
from edge_embed.retrieval import AddResult, Document


def found(hits):
    return [hit.document_id for hit in hits]


def test_add_counts_new_changed_and_unchanged(index, stub, documents):
    assert index.add(documents) == AddResult(new=3, chunks=3)
    assert index.add(documents) == AddResult(unchanged=3)
    assert stub.texts == 3
    changed = [documents[0] | {"text": "Mars has two moons."}, documents[1]]
    assert index.add(changed) == AddResult(changed=1, unchanged=1, chunks=1)
    assert index.get("mars").text == "Mars has two moons."
    assert len(index) == 3
    assert found(index.search("moons", mode="text")) == ["mars"]
    assert index.search("red", mode="text") == []


def test_new_metadata_needs_no_new_vectors(planets, stub, documents):
    before = stub.texts
    assert planets.add([documents[0] | {"metadata": {"lang": "fr"}}]) == AddResult(changed=1)
    assert stub.texts == before
    assert planets.get("mars").metadata == {"lang": "fr"}
    assert found(planets.search("mars", where={"lang": "fr"})) == ["mars"]
    assert planets.search("mars", where={"n": 4}) == []


@pytest.mark.parametrize("mode", ["vector", "text", "hybrid"])
def test_search_finds_the_document(planets, mode):
    hit = planets.search("red planet", mode=mode)[0]
    assert (hit.document_id, hit.title, hit.metadata) == ("mars", "Mars", {"lang": "en", "n": 4})
    assert hit.text == "Mars is the red planet."
    assert planets.get("mars").text[hit.start : hit.end] == hit.text
    assert "**red** **planet**" in hit.snippet
    assert (hit.vector_score is None) == (mode == "text")
    assert (hit.text_score is None) == (mode == "vector")


def test_delete_leaves_nothing(planets, documents):
    assert planets.delete(["mars", "nobody"]) == 1
    assert len(planets) == 2
    assert "mars" not in planets
    assert planets.get("mars") is None
    for mode in ("vector", "text", "hybrid"):
        assert "mars" not in found(planets.search("red planet", mode=mode))
    assert planets.search("red", where={"n": 4}) == []
    assert planets.add(documents[:1]) == AddResult(new=1, chunks=1)
    assert found(planets.search("red", mode="text")) == ["mars"]


def test_reopened_index_answers_the_same(planets, path, stub, documents):
    before = planets.search("red planet")
    planets.close()
    assert sorted(os.listdir(path.parent)) == [path.name]
    with Index.open(path, stub) as again:
        assert again.search("red planet") == before
        assert next(iter(again)) == Document(**documents[0])
        assert again.ids() == ["mars", "venus", "erde"]
        assert again.ids({"lang": "de"}) == ["erde"]


def test_two_instances_see_each_other(planets, path, stub):
    with Index.open(path, stub, memory="low") as other:
        assert found(other.search("venus", 1, mode="vector")) == ["venus"]
        planets.delete(["venus"])
        planets.add([{"id": "new", "text": "A new moon."}])
        assert found(other.search("new moon", 1, mode="vector")) == ["new"]
        assert "venus" not in found(other.search("venus", mode="vector"))
        planets.compact()
        assert found(other.search("new moon", 1)) == ["new"]
        assert other.search("red planet") == planets.search("red planet")


def test_compact_gives_slots_back(planets):
    planets.delete(["mars"])
    before = planets.search("venus bright")
    assert planets.stats().deleted_chunks == 1
    planets.compact()
    assert planets.stats().deleted_chunks == 0
    assert planets.search("venus bright") == before
    planets.check()


def test_another_model_is_refused_also_of_the_same_dimension(planets, path, make_stub):
    with pytest.raises(IndexModelError, match="reindex"):
        Index.open(path, make_stub(name="other"))
    with Index.open(path) as index:
        assert found(index.search("red", mode="text")) == ["mars"]
        with pytest.raises(IndexModelError, match="mode='text'"):
            index.search("red")


def test_reindex_takes_another_model_and_refuses_the_old(planets, path, make_stub):
    other = make_stub(dimension=10, name="other")
    with Index.open(path) as index:
        index.reindex(other)
        assert found(index.search("red planet", 1, mode="vector")) == ["mars"]
        assert index.stats().dimension == 10
    with pytest.raises(IndexModelError):
        planets.search("red planet")


def test_embedder_with_titles_and_dimension(tmp_path, tiny_model, documents):
    with (
        Embedder(tiny_model, weight_cache="memory") as model,
        Index.open(tmp_path / "a.db", model, dimension=4, vectors="float32") as index,
    ):
        index.add(documents)
        hits = index.search("the red planet", mode="vector")
        exact = index.search("the red planet", mode="vector", exact=True)
        assert found(hits) == found(exact)
        wanted = model.encode_document("Mars is the red planet.", titles="Mars", truncate_dim=4)
        query = model.encode_query("the red planet", truncate_dim=4)
        score = next(hit.score for hit in exact if hit.document_id == "mars")
        assert score == pytest.approx(float(wanted @ query), abs=1e-6)
    with Index.open(tmp_path / "a.db") as index:  # the file knows where its model is
        assert found(index.search("the red planet", mode="vector")) == found(hits)


def test_the_same_id_twice_is_refused_before_anything_is_written(index, documents):
    with pytest.raises(InputError, match="given twice"):
        index.add([*documents, documents[0]])
    assert len(index) == 0


def test_async_twins(index, documents):
    async def work():
        await index.aadd(documents)
        return await index.asearch("red planet", 1, mode="text")

    assert found(asyncio.run(work())) == ["mars"]


def test_closed_index_says_so(planets, documents):
    planets.close()
    planets.close()
    for call in (lambda: planets.search("red"), lambda: planets.add(documents), lambda: len(planets)):
        with pytest.raises(IndexFileError, match="is closed"):
            call()


def test_threads_search_while_one_adds(index):
    index.add([{"id": f"first{n}", "text": f"alpha beta {n}"} for n in range(20)])
    errors = []
    stop = threading.Event()

    def search():
        try:
            while not stop.is_set():
                hits = index.search("alpha beta", 5, per_document=True)
                assert len({hit.document_id for hit in hits}) == 5
        except BaseException as error:  # noqa: BLE001 - shown by the main thread
            errors.append(error)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for round_ in range(10):
        index.add([{"id": f"later{round_}-{n}", "text": f"alpha gamma {n}"} for n in range(5)])
        index.delete([f"first{round_}"])
    index.compact()
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(index) == 60


def test_forked_child_reads_and_writes(planets):
    planets.search("red")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            planets.add([{"id": "child", "text": "From the child."}])
            code = 0 if found(planets.search("child", 1, mode="text")) == ["child"] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert "child" in planets
    planets.add([{"id": "parent", "text": "From the parent."}])
    assert len(planets) == 5


def test_vector_of_the_caller(planets, stub):
    vector = stub.encode_query("venus")
    hits = planets.search(vector=vector, mode="vector")
    assert hits[0].document_id == "venus"
    assert planets.search(vector=vector.tolist(), mode="vector") == hits
    for bad in (vector[:3], [vector], np.full(6, np.nan)):
        with pytest.raises(InputError):
            planets.search(vector=bad, mode="vector")
