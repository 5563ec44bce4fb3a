"""The text of a PDF, by pypdf."""

from __future__ import annotations

import io
import logging

from edge_embed.errors import MissingExtraError
from edge_embed.retrieval.readers.formats import UnreadableError, clean

PAGE_BREAK = "\f"
"""What stands between the texts of two pages."""


def extract(data: bytes) -> tuple[str | None, str, int]:
    """Returns the title that a PDF names, the texts of its pages with form feeds between, and their number.

    Raises:
        UnreadableError: If it is no PDF, is damaged, needs a password, or has no text.
        MissingExtraError: If pypdf is not installed.
    """
    try:
        import pypdf  # an extra
    except ImportError as error:
        raise MissingExtraError("pypdf", extra="documents", purpose="reading PDF") from error

    if b"%PDF-" not in data[:1024]:
        raise UnreadableError("not a PDF")
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it reports every small fault that it mends
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableError("protected by a password")
        pages = [page.extract_text() for page in reader.pages]
        title = reader.metadata.title if reader.metadata else None
    except UnreadableError:
        raise
    except Exception as error:
        raise UnreadableError(f"a damaged PDF: {error or type(error).__name__}") from error
    text = clean(PAGE_BREAK.join(pages))
    if not text.strip():
        raise UnreadableError("a PDF without text: scanned pages must be recognized first")
    return (clean(title).strip() if isinstance(title, str) else None), text, len(pages)
