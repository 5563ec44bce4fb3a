"""The tables of an index file, their version, and how older files are upgraded.

```
settings    one row a setting: fingerprint of the model, dimension, chunking, lexical tokenizer
state       one row: counters that every writing transaction updates
documents   id, the caller's name, hash of the content, title, kind, metadata as JSON, the whole text
fields      one row for each value in the metadata of a document: what `where` searches
chunks      one row a chunk: document, place in it, character span, headings; its id is its slot + 1
signs       blocks of SIGN_BLOCK slots: the document of each slot (0: deleted) and the sign bits
codes       blocks of int8 vectors with their scales, each as many as fit one database page
floats      blocks of float32 vectors, only with vectors="float32"
lexical     FTS5 over title and text of each chunk; the text itself stays in `documents`
frequent    in how many chunks the common words are
```

A slot is the place of a chunk's vector. Slots are given in rising order and never used again until
`compact` numbers them anew, so a reader that holds vectors in memory only ever appends to them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

APPLICATION_ID = 0x45644531
"""The number at offset 68 of the file that says what the database is for: "EdE1"."""

SCHEMA_VERSION = 1

PAGE_BYTES = 4096

TABLES = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE state (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    generation INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    next_slot INTEGER NOT NULL,
    documents INTEGER NOT NULL,
    chunks INTEGER NOT NULL,
    counted INTEGER NOT NULL
);
INSERT INTO state VALUES (1, 0, 0, 0, 0, 0, 0);
CREATE TABLE documents (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    content_hash BLOB NOT NULL,
    title TEXT NOT NULL,
    kind TEXT NOT NULL,
    metadata TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE TABLE fields (
    name TEXT NOT NULL,
    value NOT NULL,
    document INTEGER NOT NULL,
    PRIMARY KEY (name, value, document)
) WITHOUT ROWID;
CREATE INDEX fields_by_document ON fields (document);
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY,
    document INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    start INTEGER NOT NULL,
    stop INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    headings TEXT
);
CREATE INDEX chunks_by_document ON chunks (document, ordinal);
CREATE TABLE signs (
    block INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX signs_by_generation ON signs (generation);
CREATE TABLE codes (block INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE floats (block INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE frequent (term TEXT PRIMARY KEY, chunks INTEGER NOT NULL) WITHOUT ROWID;
CREATE VIEW chunk_texts AS
    SELECT c.id AS id,
           d.title || coalesce(' ' || c.headings, '') AS title,
           substr(d.text, c.start + 1, c.stop - c.start) AS text
    FROM chunks c JOIN documents d ON d.id = c.document;
"""

_WORDS = "unicode61 remove_diacritics 2"
LEXICAL = {"words": _WORDS, "trigrams": "trigram", "auto": _WORDS}
"""FTS5's tokenizer for each choice of `lexical`; "auto" is settled by the first documents."""


def create_lexical(connection: sqlite3.Connection, lexical: str) -> None:
    """Makes the full-text table, in place of another if there is one."""
    connection.execute("DROP TABLE IF EXISTS lexical_terms")
    connection.execute("DROP TABLE IF EXISTS lexical")
    connection.execute(
        "CREATE VIRTUAL TABLE lexical USING fts5(title, text, content='chunk_texts', content_rowid='id', "
        f"tokenize='{LEXICAL[lexical]}')"
    )
    connection.execute("CREATE VIRTUAL TABLE lexical_terms USING fts5vocab(lexical, row)")


def create(connection: sqlite3.Connection) -> None:
    """Makes all tables but the full-text one, inside the caller's transaction."""
    for statement in TABLES.split(";"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


UPGRADES: dict[int, Callable[[sqlite3.Connection], None]] = {}
"""For each older version, what turns a file of it into one of the next."""


def upgrade(connection: sqlite3.Connection, version: int) -> None:
    """Brings an older file to the present schema, inside the caller's transaction."""
    while version < SCHEMA_VERSION:
        UPGRADES[version](connection)
        version += 1
        connection.execute(f"PRAGMA user_version = {version}")
