"""Files and folders as documents for an index.

For others: `find_files` walks folders, `read_documents` reads one file; `Found`, `Skipped`, `File` and
`Fields` are what they take and give; `UnreadableError` says why a file is skipped; `FORMATS` lists what is
read, and `format_of` tells the format of a file.
"""

from edge_embed.retrieval.readers.formats import (
    FORMATS,
    Fields,
    File,
    UnreadableError,
    format_of,
    read_documents,
)
from edge_embed.retrieval.readers.walking import Found, Skipped, find_files

__all__ = [
    "FORMATS",
    "Fields",
    "File",
    "Found",
    "Skipped",
    "UnreadableError",
    "find_files",
    "format_of",
    "read_documents",
]
