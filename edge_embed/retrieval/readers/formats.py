"""From a file to the documents in it, by what the end of its name says that it holds."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_embed.errors import InputError
from edge_embed.retrieval.types import Document

LARGEST = 100_000_000
"""Bytes of a file that is read as one document. JSONL and Parquet are read by rows and may be larger."""


class UnreadableError(InputError):
    """A file that holds nothing that can be indexed; `what` is the reason, to be shown beside its path."""


@dataclass(frozen=True)
class Fields:
    """Where the parts of a document are in the records of JSONL and Parquet files.

    Attributes:
        text: The field with the text.
        title: The field with the title.
        id: The field with the id; by default "id" or "_id", else the number of the row.
    """

    text: str = "text"
    title: str = "title"
    id: str | None = None


@dataclass(frozen=True)
class File:
    """A file and how its documents are to be named.

    Attributes:
        path: The path of the file.
        name: What its documents are called: the id, or its first part where there are several.
        fields: Where texts and titles are in records.
    """

    path: Path
    name: str
    fields: Fields = field(default_factory=Fields)


Reader = Callable[[File], Iterator[Document]]

_TEXT = ".txt .text .log .rst .adoc .asciidoc .org .tex .srt .vtt .eml"
_MARKDOWN = ".md .markdown .mdown .mkd .mdx .rmd .qmd"
_HTML = ".html .htm .xhtml"
_CODE = """
    .py .pyi .pyx .rb .pl .pm .php .lua .r .jl .js .mjs .cjs .jsx .ts .tsx .vue .svelte .java .kt .kts .scala
    .groovy .clj .cljs .c .h .cc .cpp .cxx .hpp .hh .hxx .m .mm .swift .rs .go .zig .nim .d .cs .fs .vb .dart
    .ex .exs .erl .hrl .hs .ml .mli .elm .lisp .el .scm .rkt .sh .bash .zsh .fish .ps1 .sql .proto .graphql
    .gradle .cmake .mk .tf .css .scss .less .toml .ini .cfg .yaml .yml .json .xml
"""
_NAMES = {
    "readme": "text",
    "license": "text",
    "copying": "text",
    "authors": "text",
    "changelog": "text",
    "makefile": "code",
    "dockerfile": "code",
    "justfile": "code",
}
"""Files without an ending that are known by their whole name."""

FORMATS: dict[str, str] = {
    **dict.fromkeys(_TEXT.split(), "text"),
    **dict.fromkeys(_MARKDOWN.split(), "markdown"),
    **dict.fromkeys(_HTML.split(), "html"),
    **dict.fromkeys(_CODE.split(), "code"),
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pdf": "pdf",
}
"""The format of a file by the end of its name, in lower case."""


def format_of(path: Path) -> str | None:
    """Returns the format of a file, None where its name says nothing that is known."""
    return FORMATS.get(path.suffix.lower()) or _NAMES.get(path.name.lower())


def read_documents(file: File) -> Iterator[Document]:
    """Yields the documents of a file: one, or one a record of JSONL and Parquet.

    A file whose name says nothing known is read as text. The spans of an index refer to `Document.text`: for
    HTML and PDF that is the text taken out of the file, for the others the file's own.

    Raises:
        UnreadableError: If the file cannot be read, is damaged, or holds no text.
        MissingExtraError: If it needs a package that is not installed.
    """
    yield from _READERS[format_of(file.path) or "text"](file)


def decode(data: bytes, *, declared: str | None = None) -> str:
    """Returns the text of a file: UTF-8, UTF-16 or UTF-32 with a mark, or what the file itself declares.

    Raises:
        UnreadableError: If it is not text.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            declared = encoding
            break
    try:
        text = data.decode(declared or "utf-8")
    except LookupError:
        raise UnreadableError(f"an unknown encoding, {declared}") from None
    except UnicodeDecodeError as error:
        name = declared or "UTF-8"
        raise UnreadableError(f"not {name}: byte 0x{data[error.start]:02x} at {error.start}") from None
    if "\0" in text:
        raise UnreadableError(f"not text: NUL at character {text.index(chr(0))}")
    return text.removeprefix("\ufeff")


_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_bytes(path: Path) -> bytes:
    """Returns what a file holds.

    Raises:
        UnreadableError: If it cannot be read, or is too large for one document.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(LARGEST + 1) if size <= LARGEST else b""  # it may grow while it is read
            if (size := max(size, len(data))) > LARGEST:
                raise UnreadableError(f"too large: {size / 1e6:.0f} MB, at most {LARGEST / 1e6:.0f} MB")
            return data
    except OSError as error:
        raise unreadable(error) from error


def unreadable(error: OSError) -> UnreadableError:
    """Returns the reason of a failed read."""
    if isinstance(error, FileNotFoundError):
        return UnreadableError("deleted while it was read")
    return UnreadableError((error.strerror or str(error)).lower())


def clean(text: str) -> str:
    """Returns text that an index can store: without NUL and lone surrogates."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()


def document_of(file: File, text: str, title: str | None, *, kind: str, **metadata: Any) -> Document:
    """Returns the one document of a file.

    Raises:
        UnreadableError: If its text is empty.
    """
    if not text or text.isspace():
        raise UnreadableError("no text in it")
    shown = format_of(file.path) or "text"
    about = {"path": file.name, "format": shown, **metadata}
    return Document(file.name, text, title or title_of(file.path), about, kind)


def title_of(path: Path) -> str:
    """Returns a title made of a file's name."""
    return re.sub(r"[-_\s]+", " ", path.stem).strip() or path.name


def _read_text(file: File) -> Iterator[Document]:
    yield document_of(file, decode(read_bytes(file.path)), None, kind="text")


def _read_code(file: File) -> Iterator[Document]:
    yield document_of(file, decode(read_bytes(file.path)), file.path.name, kind="code")


_FRONT_MATTER_TITLE = re.compile(r"---\r?\n(?:(?!---).*\n){0,50}?title:[ \t]*(.+)")
_FIRST_HEADING = re.compile(r"^ {0,3}#[ \t]+(.+?)[ \t#]*$|^([^\s#>*+-].*)\n=+[ \t]*$", re.MULTILINE)
_LOOKED_AT = 20_000


def _read_markdown(file: File) -> Iterator[Document]:
    text = decode(read_bytes(file.path))
    start = text[:_LOOKED_AT]
    title = None
    if matter := _FRONT_MATTER_TITLE.match(start):
        title = matter.group(1).strip().strip("\"'")
    elif heading := _FIRST_HEADING.search(start):
        title = (heading.group(1) or heading.group(2)).strip()
    yield document_of(file, text, title, kind="markdown")


def _read_html(file: File) -> Iterator[Document]:
    from edge_embed.retrieval.readers.html import declared_encoding, extract

    data = read_bytes(file.path)
    title, text = extract(decode(data, declared=declared_encoding(data)))
    yield document_of(file, text, title, kind="markdown")


def _read_pdf(file: File) -> Iterator[Document]:
    from edge_embed.retrieval.readers.pdf import extract

    title, text, pages = extract(read_bytes(file.path))
    yield document_of(file, text, title, kind="text", pages=pages)


def _read_jsonl(file: File) -> Iterator[Document]:
    from edge_embed.retrieval.readers.records import read_jsonl

    return read_jsonl(file)


def _read_parquet(file: File) -> Iterator[Document]:
    from edge_embed.retrieval.readers.records import read_parquet

    return read_parquet(file)


_READERS: dict[str, Reader] = {
    "text": _read_text,
    "code": _read_code,
    "markdown": _read_markdown,
    "html": _read_html,
    "pdf": _read_pdf,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}
