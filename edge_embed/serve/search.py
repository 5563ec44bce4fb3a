"""`/search`: what a client may ask of the index, and its answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_embed.errors import InputError
from edge_embed.names import SEARCH_MODES
from edge_embed.serve.errors import invalid
from edge_embed.serve.requests import whole

if TYPE_CHECKING:
    from edge_embed.retrieval import Hit, Index

MARKS = ("\ue000", "\ue001")
"""What stands before and after a found word in a snippet: private characters, which texts do not use."""

MOST_HITS = 100
LONGEST_QUERY = 8000
FIELDS = ("query", "k", "mode", "where", "min_score", "per_document")


@dataclass(frozen=True)
class SearchRequest:
    """A search. The fields are the arguments of `Index.search`."""

    query: str
    k: int = 10
    mode: str = "hybrid"
    where: dict[str, Any] | None = None
    min_score: float | None = None
    per_document: bool = False

    @classmethod
    def parse(cls, body: dict[str, Any]) -> SearchRequest:
        """Returns the search that a body describes.

        Raises:
            HttpError: If a field is unknown or cannot be used.
        """
        if unknown := [name for name in body if name not in FIELDS]:
            raise invalid(f"unknown field {unknown[0]!r}; known: {', '.join(FIELDS)}", unknown[0])
        query = body.get("query")
        if not isinstance(query, str):
            raise invalid("query must be a string", "query")
        if len(query) > LONGEST_QUERY:
            raise invalid(f"query has {len(query)} characters; at most {LONGEST_QUERY}", "query")
        try:
            query.encode()
        except UnicodeEncodeError as error:
            raise invalid("query is not valid Unicode", "query") from error
        k = whole(body.get("k", 10))
        if k is None or not 1 <= k <= MOST_HITS:
            raise invalid(f"k must be a whole number from 1 to {MOST_HITS}", "k")
        mode = body.get("mode", "hybrid")
        if mode not in SEARCH_MODES:
            raise invalid(f"mode must be one of {', '.join(SEARCH_MODES)}", "mode")
        where = body.get("where")
        if where is not None and not isinstance(where, dict):
            raise invalid("where must be an object", "where")
        least = body.get("min_score")
        if least is not None and (isinstance(least, bool) or not isinstance(least, (int, float))):
            raise invalid("min_score must be a number", "min_score")
        each = body.get("per_document", False)
        if not isinstance(each, bool):
            raise invalid("per_document must be true or false", "per_document")
        return cls(query, k, mode, where, least, each)

    def run(self, index: Index) -> list[Hit]:
        """Searches.

        Raises:
            HttpError: If the index refuses the search.
        """
        try:
            return index.search(
                self.query,
                k=self.k,
                mode=self.mode,
                where=self.where,
                min_score=self.min_score,
                per_document=self.per_document,
                marks=MARKS,
            )
        except InputError as error:
            raise invalid(str(error), "where" if self.where else "query") from error


def answer_hits(hits: Sequence[Hit]) -> dict[str, Any]:
    """Returns the answer's JSON object; `marks` are what stands before and after a word in a snippet."""
    rows = [dataclasses.asdict(hit) | {"metadata": dict(hit.metadata)} for hit in hits]
    return {"hits": rows, "marks": list(MARKS)}
