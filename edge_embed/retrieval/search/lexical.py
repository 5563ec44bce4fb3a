"""Words of a question to FTS5 and back. No text of the caller reaches FTS5's query syntax unquoted.

A question in a sentence holds words that are in half of all chunks. Each costs a row of work a chunk and says
next to nothing, so the commonest are left out, by the counts that the file keeps in `frequent`. Function
words are left out in any case, unless the question has no others.
"""

from __future__ import annotations

import json
import re
import sqlite3
import unicodedata
from collections.abc import Sequence

import numpy as np

from edge_embed.retrieval.search.function_words import FUNCTION_WORDS
from edge_embed.retrieval.search.resident import Slots
from edge_embed.retrieval.store.vectors import Floats

MOST_TERMS = 64
"""Terms of a query beyond these are left out, commonest first."""

MOST_ROWS, ROWS_SHARE = 3000, 1 / 100
"""Words are taken, rarest first, until more rows than this, or than this share of all, would be scored."""

COMMON_SHARE = 0.4
"""A word in more than this share of the chunks is left out if there is any other."""

MOST_CHARACTERS = 10_000
"""A longer query is cut here: nobody types it, and MOST_TERMS is reached long before."""

TITLE_WEIGHT, TEXT_WEIGHT = 1.0, 1.0

TRIGRAMS = "trigrams"

_LATIN_MARKS = re.compile("([a-z])[\u0300-\u036f]+")
_WORD = re.compile(r"[^\W_]+")


def fold(word: str) -> str:
    """Returns a word in lower case and without the diacritics of Latin letters, as unicode61 indexes it."""
    if word.isascii():
        return word.lower()
    bare = _LATIN_MARKS.sub(r"\1", unicodedata.normalize("NFD", word.lower()))
    return unicodedata.normalize("NFC", bare)


def key_of(term: str, lexical: str) -> str:
    """Returns a term as the full-text table spells it."""
    return term.lower() if lexical == TRIGRAMS else fold(term)


def terms_of(query: str, lexical: str) -> list[str]:
    """Returns the distinct terms of a query as they are written there.

    Args:
        query: The query.
        lexical: "trigrams" for runs of three characters; anything else for words.
    """
    # Composed, so that no mark stands alone and parts a word.
    words = _WORD.findall(unicodedata.normalize("NFC", query[:MOST_CHARACTERS].replace("\0", " ")))
    if lexical == TRIGRAMS:
        words = [word[start : start + 3] for word in words for start in range(len(word) - 2)]
    return list({key_of(word, lexical): word for word in reversed(words)}.values())[::-1]


def choose_terms(connection: sqlite3.Connection, terms: list[str], lexical: str, chunks: int) -> list[str]:
    """Returns the terms that are worth their cost, rarest first; at least one if there is one."""
    keys = {term: key_of(term, lexical) for term in terms}
    stored = connection.execute(
        "SELECT term, chunks FROM frequent WHERE term IN (SELECT value FROM json_each(?))",
        [json.dumps([*keys.values()], ensure_ascii=False)],
    )
    counts = dict(stored.fetchall())
    if lexical != TRIGRAMS:  # three letters of a longer word may spell one
        terms = [term for term in terms if keys[term] not in FUNCTION_WORDS] or terms
    # Python's sort is stable: terms that are not common keep the order of the query.
    ordered = sorted(terms, key=lambda term: counts.get(keys[term], 0))
    chosen: list[str] = []
    rows, most = 0, max(MOST_ROWS, chunks * ROWS_SHARE)
    for term in ordered[:MOST_TERMS]:
        count = counts.get(keys[term], 0)
        rows += count
        if chosen and (rows > most or count > COMMON_SHARE * chunks):
            break
        chosen.append(term)
    return chosen


def expression(terms: list[str]) -> str:
    """Returns an FTS5 query that asks for any of the terms, each quoted."""
    return " OR ".join('"' + term.replace('"', '""') + '"' for term in terms)


def find(
    connection: sqlite3.Connection, terms: list[str], count: int, condition: str, values: Sequence[object]
) -> tuple[Slots, Floats]:
    """Returns the slots that hold the terms with their BM25 scores, best first.

    Args:
        connection: A connection in a reading transaction.
        terms: What to look for; any of them is enough.
        count: How many are wanted.
        condition: A filter over documents, as `condition` of the metadata gives it; "" for none.
        values: Its parameters.
    """
    if not terms:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    within = (
        "AND rowid IN (SELECT chunks.id FROM documents JOIN chunks ON chunks.document = documents.id "
        f"WHERE {condition}) "
        if condition
        else ""
    )
    rows = connection.execute(
        f"SELECT rowid - 1, -bm25(lexical, {TITLE_WEIGHT}, {TEXT_WEIGHT}) AS score FROM lexical "
        f"WHERE lexical MATCH ? {within}ORDER BY score DESC, rowid LIMIT ?",
        [expression(terms), *values, count],
    ).fetchall()
    table = np.array(rows, np.float64).reshape(-1, 2)
    return table[:, 0].astype(np.int64), table[:, 1].astype(np.float32)
