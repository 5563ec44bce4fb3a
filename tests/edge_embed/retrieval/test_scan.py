"""The scan against a plain product of matrices."""

from __future__ import annotations

import numpy as np
import pytest

from edge_embed import Index
from edge_embed.retrieval.search import scan
from edge_embed.retrieval.search.resident import View
from edge_embed.retrieval.store import vectors
from edge_embed.retrieval.store.settings import State

COUNT, DIMENSION = 6000, 128


class Given:
    """An encoder whose documents' vectors are given, in the order in which they are added."""

    def __init__(self, rows):
        self.rows, self.next = rows, 0

    def fingerprint(self):
        return "given"

    def get_embedding_dimension(self):
        return self.rows.shape[1]

    def encode_query(self, sentences, /):
        return self.rows[int(sentences)]

    def encode_document(self, sentences, /, *, titles=None):
        part = self.rows[self.next : self.next + len(sentences)]
        self.next += len(sentences)
        return part


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(300, DIMENSION))
    rows = centres[rng.integers(0, 300, COUNT)] + 0.5 * rng.normal(size=(COUNT, DIMENSION))
    return rows.astype(np.float32)


@pytest.fixture(scope="module")
def path(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "scan.db"
    documents = ({"id": str(n), "text": f"text {n}", "metadata": {"n": n}} for n in range(COUNT))
    with Index.open(path, Given(rows), vectors="float32") as index:
        index.add(documents)
        index.delete([str(n) for n in range(0, COUNT, 10)])
    return path


def truth(rows, query, count, keep):
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    scores = unit @ (query / np.linalg.norm(query))
    scores[~keep] = -np.inf
    return np.argsort(-scores)[:count], scores


@pytest.mark.parametrize("memory", ["full", "low"])
def test_large_sets_are_found_by_signs_then_int8(path, rows, memory):
    assert scan.EXACT_BELOW < COUNT * 0.9
    keep = np.arange(COUNT) % 10 != 0
    same = total = 0
    with Index.open(path, Given(rows), memory=memory) as index:
        for number in range(1, 60, 3):
            query = rows[number] + 0.1
            best, scores = truth(rows, query, 10, keep)
            hits = index.search(vector=query, mode="vector")
            for hit in hits:
                assert hit.score == pytest.approx(scores[int(hit.document_id)], abs=0.01)
            assert sorted((hit.score for hit in hits), reverse=True) == [hit.score for hit in hits]
            same += len({hit.document_id for hit in hits} & set(map(str, best)))
            total += 10
            exact = index.search(vector=query, mode="vector", exact=True)
            assert [hit.document_id for hit in exact] == [str(n) for n in best]
    assert same / total >= 0.95


@pytest.mark.parametrize("least", [10, 5000])
def test_filter_comes_before_ranking(path, rows, least):
    keep = (np.arange(COUNT) % 10 != 0) & (np.arange(COUNT) >= COUNT - least)
    with Index.open(path, Given(rows)) as index:
        query = rows[1]
        best, _ = truth(rows, query, 5, keep)
        hits = index.search(vector=query, k=5, mode="vector", where={"n": {"gte": COUNT - least}})
        assert len(hits) == 5
        assert len({hit.document_id for hit in hits} & set(map(str, best))) >= 4
        assert all(hit.metadata["n"] >= COUNT - least for hit in hits)


def test_equal_vectors_are_found_in_the_order_of_their_slots(tmp_path):
    rows = np.tile(np.arange(1, 81, dtype=np.float32), (5000, 1))
    with Index.open(tmp_path / "a.db", Given(rows)) as index:
        index.add({"id": str(n), "text": "x"} for n in range(5000))
        hits = index.search(vector=rows[0], mode="vector")
        assert [hit.document_id for hit in hits] == [str(n) for n in range(10)]


@pytest.mark.parametrize("dimension", [1, 6, 8, 63, 64, 100, 384, 768, 5000])
def test_blocks_of_any_dimension(dimension):
    rng = np.random.default_rng(dimension)
    rows = vectors.unit_rows(rng.normal(size=(40, dimension)), dimension)
    scales, codes = vectors.quantize(rows)
    assert np.abs(scales[:, None] * codes - rows).max() <= np.abs(rows).max() / 127
    block = vectors.CodeBlock(scales, codes)
    again = vectors.CodeBlock.unpack(block.pack(), dimension)
    assert np.array_equal(again.codes, codes)
    assert np.array_equal(again.scales, scales)
    signs = vectors.SignBlock(np.arange(40, dtype=np.int32), vectors.sign_bits(rows))
    unpacked = vectors.SignBlock.unpack(signs.pack(), dimension)
    bits = np.unpackbits(unpacked.bits, axis=1, count=dimension, bitorder="little")
    assert np.array_equal(bits.astype(bool), rows > 0)
    size = vectors.codes_in_block(dimension) * (dimension + 4)
    assert size <= 4061 or vectors.codes_in_block(dimension) == 1


def test_zero_vectors_are_stored_and_score_nothing(tmp_path):
    rows = np.zeros((3, 8), np.float32)
    rows[1] = 1
    with Index.open(tmp_path / "a.db", Given(rows)) as index:
        index.add({"id": str(n), "text": "x"} for n in range(3))
        hits = index.search(vector=rows[1], mode="vector")
        assert [hit.document_id for hit in hits] == ["1", "0", "2"]
        assert hits[1].score == 0


@pytest.mark.parametrize("dimension", [64, 200, 384, 1000])
def test_the_passes_over_signs_are_what_they_are_said_to_be(dimension):
    rng = np.random.default_rng(dimension)
    rows = vectors.unit_rows(rng.normal(size=(700, dimension)), dimension)
    rows[1] = -rows[0]  # every sign differs: the greatest distance there is
    packed = np.zeros((len(rows), -(-dimension // 64) * 8), np.uint8)
    packed[:, : (dimension + 7) // 8] = vectors.sign_bits(rows)
    bits = np.ascontiguousarray(packed.view("<u8").T)
    numbers = np.arange(1, len(rows) + 1, dtype=np.int32)
    state = State(1, 0, len(rows), len(rows), len(rows), 0)
    view = View(state, dimension, bits, numbers, np.empty(0, np.int64), None, None)
    signs = rows > 0
    distances = scan._distances(view, rows[0])
    assert np.array_equal(distances, (signs != signs[0]).sum(axis=1))
    assert distances[1] == dimension
    slots = rng.permutation(len(rows))[:600]
    rounded = np.rint(rows[0] * (15 / np.abs(rows[0]).max())).astype(np.int64)
    assert np.array_equal(scan._by_set_bits(view, rows[0], slots), (signs[slots] * rounded).sum(axis=1))
