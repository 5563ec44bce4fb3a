"""The documents of a corpus."""

from __future__ import annotations

from pathlib import Path

from edge_embed.cli.files import read_texts


def documents(path: Path, field: str | None, titles_field: str | None, limit: int | None) -> list[str]:
    """Returns a corpus's first documents, each with its title ahead of it."""
    read = read_texts(str(path), field, titles_field)
    titles = read.titles or [None] * len(read.texts)
    texts = [
        f"{title} {text}".strip() if title else text for title, text in zip(titles, read.texts, strict=True)
    ]
    return texts[:limit]
