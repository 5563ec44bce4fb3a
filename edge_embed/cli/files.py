"""Texts that a command needs all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_embed.bulk.rows import TEXT_FIELD, Fields, read_parts


@dataclass
class Texts:
    """Texts and what came with them.

    Attributes:
        texts: The texts, in the order of the input.
        titles: A title for each text, where a field was named for titles.
        records: What each text was part of.
    """

    texts: list[str]
    titles: list[str | None] | None = None
    records: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, texts: Sequence[str]) -> Texts:
        """Returns bare texts."""
        return cls(list(texts), records=[{TEXT_FIELD: text} for text in texts])


def read_texts(source: str, text_field: str | None = None, title_field: str | None = None) -> Texts:
    """Reads all texts of a file, or of stdin for `-`.

    Args:
        source: A file as `edge_embed.bulk.rows.read_parts` takes it.
        text_field: The field with the text, by default `text`.
        title_field: The field with the title, if any.

    Raises:
        InputError: If the file cannot be read, or a row cannot be used; it is named.
        MissingExtraError: If it is Parquet and pyarrow is not installed.
    """
    whole = Texts([], None if title_field is None else [])
    for part in read_parts(source, Fields(text_field, title_field)):
        whole.texts += part.texts
        whole.records += part.as_records()
        if whole.titles is not None:
            whole.titles += part.titles or []
    return whole
