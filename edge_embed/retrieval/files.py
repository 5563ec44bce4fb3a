"""Folders into an index: what is new or changed is embedded, what is gone can be removed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_embed.errors import EdgeEmbedError, InputError, MissingExtraError
from edge_embed.progress import Advance, progress_bar
from edge_embed.retrieval.documents import check_document
from edge_embed.retrieval.readers import (
    Fields,
    File,
    Found,
    Skipped,
    UnreadableError,
    find_files,
    format_of,
    read_documents,
)
from edge_embed.retrieval.types import AddResult

if TYPE_CHECKING:
    from edge_embed.retrieval.index import Index


@dataclass(frozen=True)
class FilesResult:
    """What `Index.add_files` did.

    Attributes:
        files: Files that were read.
        added: How many of their documents were new, changed and unchanged.
        removed: Documents that were removed, because their files are gone.
        gone: Documents whose files are gone and that are still in the index.
        skipped: Files that were not read, or not to their end, and why.
        unknown: How many files there were of each ending that is not known.
    """

    files: int
    added: AddResult
    removed: int
    gone: int
    skipped: Sequence[Skipped]
    unknown: Mapping[str, int]


@dataclass
class _Reading:
    """What is learnt while the files are read."""

    names: set[str] = field(default_factory=set)
    unfinished: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    files: int = 0


def add_files(
    index: Index,
    paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    exclude: Sequence[str],
    prune: bool,
    fields: Fields | None,
    show_progress_bar: bool | None,
) -> FilesResult:
    """Stores the documents of files and folders; `Index.add_files` says more."""
    starts = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    base = Path(os.path.abspath(index.path)).parent
    found = list(find_files(starts, exclude=exclude))
    reading = _Reading(skipped=[each for each in found if isinstance(each, Skipped)])
    files = [each for each in found if isinstance(each, Found)]
    with progress_bar(len(files), "indexing", unit="file", show=show_progress_bar) as advance:
        documents = _documents(files, Path(index.path).resolve(), base, fields or Fields(), reading, advance)
        added = index.add(documents, show_progress_bar=False)
    gone = _gone(index, [_name(Path(start), base) for start in starts], reading)
    removed = index.delete(gone) if prune and gone else 0
    return FilesResult(
        reading.files,
        added,
        removed,
        len(gone) - removed,
        reading.skipped,
        dict(reading.unknown.most_common()),
    )


def _documents(
    files: Sequence[Found], own: Path, base: Path, fields: Fields, reading: _Reading, advance: Advance
) -> Iterator[dict[str, Any]]:
    for file in files:
        if file.path.name.startswith(own.name) and file.path.parent.resolve() == own.parent:
            pass  # the index itself, and the files that SQLite keeps beside it
        elif format_of(file.path) is None and not file.named:
            reading.unknown[file.path.suffix.lower() or file.path.name] += 1
        else:
            name = _name(file.path, base)
            try:
                for document in read_documents(File(file.path, name, fields)):
                    if document.id in reading.names:
                        raise UnreadableError(f"the id {document.id!r} is given twice")
                    values = asdict(document)
                    check_document(values, 0)
                    reading.names.add(document.id)
                    yield values
                reading.files += 1
            except (InputError, MissingExtraError) as error:
                # One bad file, or a record that cannot be stored, must not stop the others.
                reading.unfinished.append(name)
                reading.skipped.append(Skipped(file.path, _in_one_line(error)))
        advance(1)


def _in_one_line(error: EdgeEmbedError) -> str:
    parts = [error.what, error.got and f"got: {error.got}", error.fix and f"to fix it: {error.fix}"]
    return "; ".join(part for part in parts if part)


def _name(path: Path, base: Path) -> str:
    """Returns what a file is called in an index: its path, seen from the folder of the index."""
    absolute = os.path.abspath(path)
    try:
        return Path(os.path.relpath(absolute, base)).as_posix()
    except ValueError:  # another drive
        return Path(absolute).as_posix()


def _gone(index: Index, starts: Sequence[str], reading: _Reading) -> list[str]:
    """Returns the documents at or below some paths that came from files and were not met again."""

    def below(name: str, start: str) -> bool:
        if start == ".":
            return not name.startswith("../") and not Path(name).is_absolute()
        return name == start or name.startswith((f"{start}/", f"{start}#"))

    return [
        name
        for name in index.ids(where={"path": {"exists": True}, "format": {"exists": True}})
        if name not in reading.names
        and any(below(name, start) for start in starts)
        and not any(below(name, start) for start in reading.unfinished)
    ]
