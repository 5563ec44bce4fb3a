"""One search from the query's vector and words to hits, inside one reading transaction."""

from __future__ import annotations

import json
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_embed.errors import IndexModelError
from edge_embed.retrieval.search import fuse, lexical, scan
from edge_embed.retrieval.search.resident import Slots, View
from edge_embed.retrieval.search.snippet import snippet
from edge_embed.retrieval.store.settings import Settings, State
from edge_embed.retrieval.store.vectors import Floats
from edge_embed.retrieval.types import Hit

HYBRID_DEPTH = 50
"""Hits of each side that are fused, at least."""

DIVERSE_DEPTH = 5
"""With `diversity`, hits are chosen among this many times the wanted number, and at least `HYBRID_DEPTH`."""

_FILTERS_KEPT = 8


@dataclass(frozen=True)
class Request:
    """What is searched for.

    Attributes:
        count: How many hits are wanted.
        mode: "vector", "text" or "hybrid".
        vector: The query at unit length, ``(dimension,)``; None in mode "text".
        text: The query.
        condition: A filter over documents in SQL; "" for none.
        values: Its parameters.
        least: The least score; None for any.
        per_document: Whether only the best chunk of a document is a hit.
        diversity: 0 to 1, see `fuse.diversify`.
        weights: The weights of the cosine and of BM25, in mode "hybrid".
        exact: Whether all float32 vectors are compared.
        snippet_length: About how many characters a snippet has.
        marks: What stands before and after a word that was found.
    """

    count: int
    mode: str
    vector: Floats | None
    text: str
    condition: str
    values: Sequence[object]
    least: float | None
    per_document: bool
    diversity: float
    weights: tuple[float, float]
    exact: bool
    snippet_length: int
    marks: tuple[str, str]


@dataclass
class _Ranked:
    """Slots in order, with what is known of each."""

    slots: list[int]
    scores: dict[int, float]
    vector_scores: dict[int, float] = field(default_factory=dict)
    text_scores: dict[int, float] = field(default_factory=dict)


class Searcher:
    """Answers requests. It keeps the documents of the last filters, for as long as the file is the same."""

    def __init__(self) -> None:
        self._filters: OrderedDict[tuple[int, str, str], scan.Mask] = OrderedDict()

    def search(
        self,
        connection: sqlite3.Connection,
        state: State,
        settings: Settings,
        view: View | None,
        request: Request,
    ) -> list[Hit]:
        """Returns the hits of a request, best first.

        Args:
            connection: A connection in a reading transaction.
            state: The counters in that transaction.
            settings: The settings in that transaction.
            view: The vectors of that transaction; None in mode "text".
            request: What is searched for.

        Raises:
            IndexModelError: If the index was given to a model of another dimension meanwhile.
        """
        if request.vector is not None and len(request.vector) != settings.dimension:
            raise IndexModelError(
                "the index was computed again with another model",
                got=f"a query of {len(request.vector)} numbers",
                expected=str(settings.dimension),
                fix="open the index again",
            )
        terms = lexical.terms_of(request.text, settings.lexical)
        terms = lexical.choose_terms(connection, terms, settings.lexical, state.chunks)
        run = _Run(connection, view, request, terms, self._allowed(connection, view, request))
        ranked = run.ranked()
        return _hits(connection, ranked, terms, request, inside_words=settings.lexical == lexical.TRIGRAMS)

    def _allowed(
        self, connection: sqlite3.Connection, view: View | None, request: Request
    ) -> scan.Mask | None:
        if not request.condition or view is None:
            return None
        key = (view.state.generation, request.condition, json.dumps(list(request.values)))
        if (known := self._filters.get(key)) is not None:
            return known
        rows = connection.execute(
            f"SELECT documents.id FROM documents WHERE {request.condition}", request.values
        )
        found = np.fromiter((row[0] for row in rows), np.int64)
        by_document = np.zeros(int(view.documents.max(initial=0)) + 1, np.bool_)
        by_document[found[found < len(by_document)]] = True
        allowed: scan.Mask = by_document[view.documents]
        self._filters[key] = allowed
        while len(self._filters) > _FILTERS_KEPT:
            self._filters.popitem(last=False)
        return allowed


class _Run:
    """The state of one search."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        view: View | None,
        request: Request,
        terms: list[str],
        allowed: scan.Mask | None,
    ) -> None:
        self._connection, self._view, self._request = connection, view, request
        self._terms, self._allowed = terms, allowed

    def ranked(self) -> _Ranked:
        """Returns the chosen slots, best first."""
        request = self._request
        depth = request.count
        if request.mode == "hybrid":
            depth = max(depth, HYBRID_DEPTH)
        if request.diversity:
            depth = max(depth, DIVERSE_DEPTH * request.count, HYBRID_DEPTH)
        if request.mode == "vector":
            ranked = self._by_vector(depth)
            ranked.vector_scores = ranked.scores
        elif request.mode == "text":
            ranked = self._by_words(depth)
            ranked.text_scores = ranked.scores
        else:
            ranked = self._fused(depth)
        if request.least is not None:
            bound = ranked.text_scores if request.mode == "text" else ranked.vector_scores
            ranked.slots = [slot for slot in ranked.slots if bound[slot] >= request.least]
        if request.diversity and self._view is not None:
            self._diversify(ranked)
        ranked.slots = ranked.slots[: request.count]
        return ranked

    def _fused(self, depth: int) -> _Ranked:
        sides = [self._by_vector(depth), self._by_words(depth)]
        cosines, words = dict(sides[0].scores), sides[1].scores
        cosines.update(self._cosines([slot for slot in sides[1].slots if slot not in cosines]))
        # With one hit a document the two sides may know it by different chunks: the better placed one stays,
        # and each side counts by its own best chunk.
        slots = [slot for side in sides for slot in side.slots]
        owners = self._owners(slots)
        chosen: dict[int, tuple[int, int]] = {}
        for side in sides:
            for rank, slot in enumerate(side.slots):
                if owners[slot] not in chosen or rank < chosen[owners[slot]][0]:
                    chosen[owners[slot]] = (rank, slot)
        fused = fuse.standardized_sum(
            _best_of_each(owners, slots, cosines), _best_of_each(owners, slots, words), self._request.weights
        )
        scores = {slot: fused[owner] for owner, (_, slot) in chosen.items()}
        ordered = sorted(scores, key=lambda slot: (-scores[slot], slot))
        return _Ranked(ordered, scores, cosines, words)

    def _owners(self, slots: list[int]) -> dict[int, int]:
        """Returns what counts as one hit: the document of each slot, or the slot itself."""
        if not self._request.per_document:
            return {slot: slot for slot in slots}
        return self._documents(slots)

    def _documents(self, slots: list[int]) -> dict[int, int]:
        if self._view is not None:
            return dict(zip(slots, self._view.documents[slots].tolist(), strict=True))
        rows = self._connection.execute(
            "SELECT id - 1, document FROM chunks WHERE id IN (SELECT value + 1 FROM json_each(?))",
            [json.dumps(slots)],
        )
        return dict(rows.fetchall())

    def _cosines(self, slots: list[int]) -> dict[int, float]:
        if not slots:
            return {}
        assert self._view is not None
        assert self._request.vector is not None
        scores = self._view.scores(self._request.vector, np.array(slots, np.int64), self._connection)
        return dict(zip(slots, scores.tolist(), strict=True))

    def _by_vector(self, depth: int) -> _Ranked:
        view, query = self._view, self._request.vector
        assert view is not None
        assert query is not None
        search = scan.nearest_exact if self._request.exact else scan.nearest

        def find(count: int) -> tuple[Slots, Floats]:
            return search(view, self._connection, query, count, self._allowed)

        return self._once_a_document(find, depth, view.slots)

    def _by_words(self, depth: int) -> _Ranked:
        def find(count: int) -> tuple[Slots, Floats]:
            return lexical.find(
                self._connection, self._terms, count, self._request.condition, self._request.values
            )

        return self._once_a_document(find, depth, None)

    def _once_a_document(
        self, find: Callable[[int], tuple[Slots, Floats]], depth: int, most: int | None
    ) -> _Ranked:
        """Calls `find` with greater counts until there are `depth` different documents, or no more chunks."""
        count = depth
        while True:
            slots, scores = find(count)
            ranked = _Ranked(slots.tolist(), dict(zip(slots.tolist(), scores.tolist(), strict=True)))
            if not self._request.per_document:
                return ranked
            owners = self._documents(ranked.slots)
            first: dict[int, int] = {}
            for slot in ranked.slots:
                first.setdefault(owners[slot], slot)
            if len(first) >= depth or len(slots) < count or (most is not None and count >= most):
                ranked.slots = list(first.values())[:depth]
                return ranked
            count *= 4

    def _diversify(self, ranked: _Ranked) -> None:
        assert self._view is not None
        if not ranked.slots:
            return
        relevance = np.array([ranked.scores[slot] for slot in ranked.slots], np.float32)
        if self._request.mode == "hybrid":  # these scores have no range of their own
            relevance -= relevance.min()
            relevance /= max(float(relevance.max()), 1e-9)
        rows = self._view.rows(np.array(ranked.slots, np.int64), self._connection)
        order = fuse.diversify(relevance, rows, self._request.count, self._request.diversity)
        ranked.slots = [ranked.slots[index] for index in order]


def _best_of_each(
    owners: Mapping[int, int], slots: Iterable[int], scores: Mapping[int, float]
) -> dict[int, float]:
    """Returns the greatest score of each owner among the slots that have one."""
    best: dict[int, float] = {}
    for slot in slots:
        if slot in scores:
            owner = owners[slot]
            best[owner] = max(scores[slot], best.get(owner, scores[slot]))
    return best


_HIT = """
SELECT c.id - 1, d.name, c.ordinal, substr(d.text, c.start + 1, c.stop - c.start), c.start, c.stop, d.title,
       c.headings, d.metadata
FROM json_each(?) AS wanted CROSS JOIN chunks c ON c.id = wanted.value + 1
JOIN documents d ON d.id = c.document
"""
"""With CROSS JOIN the slots lead, which takes a third of the time of `c.id IN (SELECT …)`."""


def _hits(
    connection: sqlite3.Connection,
    ranked: _Ranked,
    terms: list[str],
    request: Request,
    *,
    inside_words: bool,
) -> list[Hit]:
    rows = {row[0]: row for row in connection.execute(_HIT, [json.dumps(ranked.slots)])}
    hits = []
    for slot in ranked.slots:
        _, name, ordinal, text, start, stop, title, headings, metadata = rows[slot]
        hits.append(
            Hit(
                document_id=name,
                chunk=ordinal,
                text=text,
                start=start,
                end=stop,
                title=title,
                headings=tuple(json.loads(headings)) if headings else (),
                metadata=json.loads(metadata),
                score=ranked.scores[slot],
                vector_score=ranked.vector_scores.get(slot),
                text_score=ranked.text_scores.get(slot),
                snippet=snippet(
                    text,
                    terms,
                    inside_words=inside_words,
                    length=request.snippet_length,
                    marks=request.marks,
                ),
            )
        )
    return hits
