"""Texts with their languages, from files."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_embed.bulk.rows import TEXT_FIELD, Fields, read_parts
from edge_embed.errors import InputError

LANGUAGE_FIELD = "lang"
"""The field of a record that names its language."""

UNNAMED = "-"
"""The language of texts that name none."""

SET_ASIDE = 20
"""One text of this number is in the sample on which coverage is measured."""

_LABELLED = re.compile(r"([A-Za-z]{2,3}(?:-[A-Za-z0-9]+)*)=(.+)", re.DOTALL)


@dataclass(frozen=True)
class Text:
    """A text and its language."""

    text: str
    language: str

    @property
    def set_aside(self) -> bool:
        """Whether it belongs to the sample on which coverage is measured; the same in every run."""
        return zlib.crc32(self.text.encode()) % SET_ASIDE == 0


def read(
    sources: Sequence[str], *, languages: Sequence[str] | None = None, field: str | None = None
) -> list[Text]:
    """Reads texts.

    Args:
        sources: Files of text, JSON lines or Parquet. `de=FILE` says that its texts are German; otherwise the
            field `lang` of a record says so.
        languages: Keeps texts in these languages only.
        field: The field with the text in records.

    Raises:
        InputError: If a file cannot be read or is not UTF-8, a language has no text, or `languages` are named
            and a text names none.
    """
    found: dict[str, Text] = {}
    for source in sources:
        label, path = _parse(source)
        named = (
            field
            if not Path(path).name.lower().removesuffix(".gz").removesuffix(".xz").endswith(".txt")
            else None
        )
        for part in read_parts(path, Fields(named)):
            for place, (text, record) in enumerate(zip(part.texts, part.as_records(), strict=True)):
                language = label or record.get(LANGUAGE_FIELD) or UNNAMED
                if languages is not None and language == UNNAMED:
                    raise InputError(
                        "--languages needs texts that state their language",
                        got=f"row {part.first + place + 1} of {path} names none",
                        expected=f"a field {LANGUAGE_FIELD!r} in each record, or de={path} for a German file",
                    )
                if text.strip() and (languages is None or language in languages):
                    found.setdefault(text, Text(text, str(language)))
    there = {text.language for text in found.values()}
    if languages is not None and (absent := [name for name in languages if name not in there]):
        raise InputError(
            "no text is in one of the requested languages",
            got=f"none in {', '.join(absent)}",
            expected=f"languages of the texts{': ' + ', '.join(sorted(there)) if there else ''}",
        )
    if not found:
        raise InputError(
            f"there is no text in {', '.join(sources)}",
            expected=f"a text in each line, or in the field {field or TEXT_FIELD!r} of each record",
            fix="name files with texts as the model will be given them",
        )
    return list(found.values())


def _parse(source: str) -> tuple[str | None, str]:
    match = _LABELLED.fullmatch(source)
    if match is None or Path(source).is_file():
        return None, source
    return match[1], match[2]
