"""Whatever comes from outside: queries, metadata, filters, sequences of changes, against a plain model."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge_embed import Index
from edge_embed.errors import InputError
from edge_embed.retrieval.store.metadata import check_metadata

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

HOSTILE = [
    '"',
    "'",
    '""" OR 1',
    "red AND",
    "NEAR(red planet, 3)",
    "title:red",
    "text : red",
    "red*",
    "^red",
    "-red",
    "red + planet",
    "(red",
    "{title text}: red",
    "\0",
    "red\0planet",
    "OR NOT NEAR",
    "; DROP TABLE documents",
    "lexical MATCH 'x'",
    "*",
    "%_",
    "red\n\tplanet",
    "\ufb01ne \uff32\uff25\uff24",
    "\u0301",
    "a" * 5000,
    "red " * 500,
]


@pytest.mark.parametrize("mode", ["text", "hybrid"])
@pytest.mark.parametrize("query", HOSTILE)
def test_queries_never_reach_the_syntax_of_fts5(planets, query, mode):
    hits = planets.search(query, mode=mode)
    words = set(query.lower().replace("\0", " ").replace("*", " ").split())
    if mode == "text" and "red" not in query.lower():
        assert not hits
    if mode == "text" and "red" in words:
        assert hits[0].document_id == "mars"
    assert len(planets) == 3


@QUICK
@given(st.text(max_size=40))
def test_any_text_is_a_query(shared, query):
    shared.search(query)
    shared.search(query, mode="text", per_document=True)


def test_long_and_empty_queries(planets):
    for query in ("", "  ", None, "\0"):
        assert planets.search(query) == []
    million = "planet red " * 100_000
    assert planets.search(million, 1, mode="text")[0].document_id == "mars"
    for bad in (3, b"red", ["red"], "\ud800"):
        with pytest.raises(InputError):
            planets.search(bad)


@pytest.mark.parametrize(
    "options",
    [
        {"k": 0},
        {"k": -1},
        {"k": 1.5},
        {"k": True},
        {"mode": "both"},
        {"min_score": "x"},
        {"min_score": math.nan},
        {"diversity": 2},
        {"weights": (1,)},
        {"weights": (-1, 1)},
        {"weights": 3},
        {"marks": "x"},
        {"snippet_length": 0},
        {"where": "lang = 'en'"},
        {"where": {3: 1}},
        {"where": {"n": {"around": 3}}},
        {"where": {"n": {}}},
        {"where": {"n": {"exists": 1}}},
        {"where": {"n": b"x"}},
        {"where": {"n": [None]}},
        {"where": {"n": [[1]]}},
        {"where": {"n": math.nan}},
        {"where": {"n": 2**70}},
        {"where": {"n": {"gt": None}}},
        {"where": {"n": object()}},
        {"where": {"n": "\ud800"}},
        {"exact": True},
    ],
)
def test_options_that_cannot_be_used(planets, options):
    with pytest.raises(InputError):
        planets.search("red planet", **options)


@pytest.mark.parametrize(
    "document",
    [
        "text",
        {"text": "no id"},
        {"id": "a"},
        {"id": "", "text": "x"},
        {"id": 3, "text": "x"},
        {"id": "a" * 5000, "text": "x"},
        {"id": "a", "text": b"x"},
        {"id": "a", "text": "nul\0"},
        {"id": "a", "text": "\ud800"},
        {"id": "a", "text": "x", "title": 3},
        {"id": "a", "text": "x", "kind": "pdf"},
        {"id": "a", "text": "x", "lang": "en"},
        {"id": "a", "text": "x", "metadata": "m"},
        {"id": "a", "text": "x", "metadata": {3: 1}},
        {"id": "a", "text": "x", "metadata": {"f": {1, 2}}},
        {"id": "a", "text": "x", "metadata": {"f": math.inf}},
        {"id": "a", "text": "x", "metadata": {"f": 2**64}},
        {"id": "a", "text": "x", "metadata": {"f": b"x"}},
        {"id": "a", "text": "x", "metadata": {"f": "\ud800"}},
    ],
)
def test_documents_that_cannot_be_stored(index, document):
    with pytest.raises(InputError):
        index.add([{"id": "good", "text": "good"}, document])
    assert len(index) == 0


def test_metadata_nested_too_deeply_and_very_large(index):
    deep = {}
    for _ in range(50):
        deep = {"d": deep}
    with pytest.raises(InputError, match="deeply"):
        index.add([{"id": "a", "text": "x", "metadata": deep}])
    large = {"note": "n" * 1_000_000, "many": list(range(1000))}
    index.add([{"id": "a", "text": "x", "metadata": large}, {"id": "b", "text": "x"}])
    assert index.get("a").metadata == large
    assert index.ids(where={"many": 999}) == ["a"]
    assert index.ids(where={"note": large["note"]}) == ["a"]


SCALARS = st.one_of(
    st.sampled_from(["a", "b", "Ä", "", "1"]),
    st.integers(-2, 3),
    st.sampled_from([-0.5, 1.0, 2.5]),
    st.booleans(),
)
VALUES = st.one_of(SCALARS, st.none(), st.lists(SCALARS, max_size=3), st.just({"x": 1}))
NAMES = st.sampled_from(["f", "g", "f.x", 'q"uote', "f' OR 1=1"])
METADATA = st.dictionaries(NAMES, VALUES, max_size=3)
BOUNDS = st.one_of(st.integers(-2, 3), st.sampled_from([-0.5, 2.5]), st.sampled_from(["a", "b"]))
CONDITIONS = st.one_of(
    SCALARS,
    st.none(),
    st.lists(SCALARS, max_size=3),
    st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), BOUNDS, min_size=1, max_size=2),
    st.builds(lambda b: {"exists": b}, st.booleans()),
)
FILTERS = st.dictionaries(NAMES, CONDITIONS, max_size=2)

COMPARE = {
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
}


def values_of(metadata, name):
    """What a filter sees under a name, said once more and plainly."""
    found = []
    for key, value in metadata.items():
        if isinstance(value, dict):
            found += values_of({f"{key}.{inner}": item for inner, item in value.items()}, name)
        elif key == name:
            found += value if isinstance(value, list) else [] if value is None else [value]
    return found


def holds(metadata, name, wanted):
    found = values_of(metadata, name)
    if wanted is None:
        return not found
    if isinstance(wanted, list):
        return any(value in wanted for value in found)
    if not isinstance(wanted, dict):
        return wanted in found
    if "exists" in wanted:
        return bool(found) == wanted["exists"]

    def inside(value):
        return all(
            isinstance(value, str) == isinstance(bound, str) and COMPARE[name](value, bound)
            for name, bound in wanted.items()
        )

    return any(inside(value) for value in found)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    from importlib.util import module_from_spec, spec_from_file_location
    from pathlib import Path

    spec = spec_from_file_location("stubs", Path(__file__).with_name("conftest.py"))
    stubs = module_from_spec(spec)
    spec.loader.exec_module(stubs)
    with Index.open(tmp_path_factory.mktemp("shared") / "a.db", stubs.StubEncoder()) as index:
        index.add(stubs.PLANETS)
        yield index


@QUICK
@given(st.lists(METADATA, max_size=5), FILTERS)
def test_filters_are_what_a_plain_loop_finds(shared, metadatas, where):
    shared.delete(shared.ids())
    shared.add([{"id": f"{n}", "text": "same words", "metadata": m} for n, m in enumerate(metadatas)])
    expected = {
        str(n) for n, m in enumerate(metadatas) if all(holds(m, name, w) for name, w in where.items())
    }
    assert set(shared.ids(where)) == expected
    for mode in ("vector", "text", "hybrid"):
        assert {hit.document_id for hit in shared.search("same words", where=where, mode=mode)} == expected


@QUICK
@given(METADATA)
def test_metadata_comes_back_as_it_was(metadata):
    assert json.loads(check_metadata(metadata, "a")) == metadata


WORDS = ["red", "planet", "moon", "sea", "ring", "dust"]
IDS = st.sampled_from([f"d{n}" for n in range(6)])
TEXTS = st.lists(st.sampled_from(WORDS), min_size=0, max_size=4).map(" ".join)


class Changes(RuleBasedStateMachine):
    """Any sequence of changes leaves what a dictionary would hold, in this instance and in another."""

    @initialize()
    def begin(self):
        import importlib.util
        import tempfile
        from pathlib import Path

        spec = importlib.util.spec_from_file_location("stubs", Path(__file__).with_name("conftest.py"))
        self.stubs = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.stubs)
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "a.db"
        self.model = {}
        self.index = Index.open(self.path, self.stubs.StubEncoder())
        self.other = Index.open(self.path, self.stubs.StubEncoder(), memory="low")

    @rule(documents=st.dictionaries(IDS, st.tuples(TEXTS, st.integers(0, 2)), max_size=3))
    def add(self, documents):
        result = self.index.add(
            [{"id": name, "text": text, "metadata": {"n": n}} for name, (text, n) in documents.items()]
        )
        assert result.new == len(documents.keys() - self.model.keys())
        assert result.unchanged == sum(self.model.get(name) == value for name, value in documents.items())
        self.model.update(documents)

    @rule(names=st.lists(IDS, max_size=3))
    def delete(self, names):
        assert self.index.delete(names) == len(self.model.keys() & set(names))
        for name in names:
            self.model.pop(name, None)

    @rule()
    def compact(self):
        self.index.compact()
        assert self.index.stats().deleted_chunks == 0

    @rule()
    def reopen(self):
        self.index.close()
        self.index = Index.open(self.path, self.stubs.StubEncoder())

    @rule()
    def reindex(self):
        self.index.reindex()

    @rule(word=st.sampled_from(WORDS), n=st.integers(0, 2))
    def search(self, word, n):
        with_text = {name for name, (text, _) in self.model.items() if text}
        for index in (self.index, self.other):
            texts = index.search(word, mode="text")
            assert {h.document_id for h in texts} == {
                name for name, (text, _) in self.model.items() if word in text.split()
            }
            vectors = index.search(word, mode="vector")
            assert {h.document_id for h in vectors} == with_text
            filtered = index.search(word, where={"n": n})
            assert {h.document_id for h in filtered} == {
                name for name in with_text if self.model[name][1] == n
            }
            for hit in (*texts, *vectors, *filtered):
                assert self.model[hit.document_id] == (hit.text, hit.metadata["n"])
        assert self.index.search(word) == self.other.search(word)

    @invariant()
    def same_documents(self):
        assert {d.id: (d.text, d.metadata["n"]) for d in self.index} == self.model
        assert len(self.other) == len(self.model)

    def teardown(self):
        if hasattr(self, "index"):
            self.index.check()
            self.index.close()
            self.other.close()
            self.directory.cleanup()


Changes.TestCase.settings = settings(max_examples=12, stateful_step_count=12, deadline=None)
TestChanges = Changes.TestCase
