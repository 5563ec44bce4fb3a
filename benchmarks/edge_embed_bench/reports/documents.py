"""Reports of one measurement that is not a table of records: a JSON document, also as Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from edge_embed.report_files import check_report_file, write_file

ENDINGS = (".json", ".md")


def check_document_files(paths: Iterable[Path] | None) -> None:
    """Checks before any measurement that the document can be written.

    Raises:
        InputError: If an ending is another than `.json` or `.md`, or a directory is missing.
    """
    for path in paths or ():
        check_report_file(path, ENDINGS)


def write_document(
    document: Mapping[str, Any], paths: Iterable[Path] | None, markdown: Callable[[Mapping[str, Any]], str]
) -> None:
    """Writes the document in the form that each file's ending names.

    Args:
        document: The document, as JSON values.
        paths: The files; None for none.
        markdown: Turns it into Markdown.

    Raises:
        InputError: If a file cannot be written.
    """
    for path in paths or ():
        text = markdown(document) if path.suffix == ".md" else json.dumps(document, indent=1) + "\n"
        write_file(path, text.encode())
