"""What callers hand to `Index.add`, checked and hashed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from edge_embed.errors import InputError
from edge_embed.retrieval.chunks import KINDS
from edge_embed.retrieval.store.metadata import check_metadata

_KEYS = ("id", "text", "title", "metadata", "kind")
_LONGEST_ID = 4096


@dataclass(frozen=True)
class Source:
    """A document as it was handed in.

    Attributes:
        name: Its id.
        text: Its text.
        title: Its title; empty if it has none.
        kind: How its text is cut.
        metadata: Its metadata as JSON.
    """

    name: str
    text: str
    title: str
    kind: str
    metadata: str

    @cached_property
    def text_hash(self) -> bytes:
        """Hash of what the vectors depend on."""
        parts = json.dumps([self.title, self.kind, self.text], ensure_ascii=False)
        return hashlib.sha256(parts.encode("utf-8")).digest()[:16]

    @cached_property
    def content_hash(self) -> bytes:
        """Hash of all of it: the hash of the text, then one of the metadata."""
        return self.text_hash + hashlib.sha256(self.metadata.encode("utf-8")).digest()[:16]


def check_document(document: object, place: int) -> Source:
    """Returns a document that can be stored.

    Args:
        document: A mapping with "id", "text", and optionally "title", "metadata" and "kind".
        place: Its place in the call, for the message.

    Raises:
        InputError: If it cannot be stored.
    """
    if not isinstance(document, Mapping):
        raise InputError(
            f"document {place} cannot be stored",
            got=type(document).__name__,
            expected='a mapping with "id" and "text"',
        )
    if unknown := [key for key in document if key not in _KEYS]:
        raise InputError(
            f"document {place} has an unknown key",
            got=repr(unknown[0]),
            expected=", ".join(_KEYS),
            fix='put fields of your own into "metadata"',
        )
    name = check_id(document.get("id"), f"the id of document {place}")
    kind = document.get("kind") or "text"
    if kind not in KINDS:
        raise InputError(
            f"the kind of document {name!r} is unknown", got=repr(kind), expected=", ".join(KINDS)
        )
    title = document.get("title")
    return Source(
        name,
        _check_text(document.get("text"), f"the text of document {name!r}"),
        "" if title is None else _check_text(title, f"the title of document {name!r}").strip(),
        str(kind),
        check_metadata(document.get("metadata"), name),
    )


def check_documents(documents: Iterable[Mapping[str, Any]]) -> Iterator[Source]:
    """Yields documents that can be stored, each id once."""
    if isinstance(documents, (str, bytes, Mapping)):
        raise InputError(
            "documents are not a list", got=type(documents).__name__, expected="a list of mappings"
        )
    seen: dict[str, int] = {}
    for place, document in enumerate(documents):
        source = check_document(document, place)
        if source.name in seen:
            raise InputError(
                f"the id {source.name!r} is given twice in one call",
                got=f"documents {seen[source.name]} and {place}",
                fix="give each document an id of its own",
            )
        seen[source.name] = place
        yield source


def check_id(value: Any, what: str) -> str:
    """Returns a document's id if it can be one: a string that is not empty, of at most 4096 characters."""
    name = _check_text(value, what)
    if not 0 < len(name) <= _LONGEST_ID:
        raise InputError(
            f"{what} cannot be used", got=f"{len(name)} characters", expected=f"1 to {_LONGEST_ID}"
        )
    return name


def _check_text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{what} is not a string", got=type(value).__name__, expected="str")
    if "\0" in value:
        raise InputError(
            f"{what} holds the character NUL",
            got=f"NUL at position {value.index(chr(0))}",
            expected="text",
            fix='text.replace("\\0", " ")',
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} holds a lone surrogate",
            got=f"{value[error.start]!r} at position {error.start}",
            expected="text that can be encoded as UTF-8",
            fix='text.encode("utf-8", "replace").decode()',
        ) from error
    return str(value)
