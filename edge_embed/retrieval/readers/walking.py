"""Finds the files of folders: links that form a loop, ignore files, and what disappears meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_embed.errors import InputError
from edge_embed.retrieval.readers.ignore import IgnoreRules, ignored

IGNORE_FILE = ".gitignore"
_NO_RULES = IgnoreRules(())


@dataclass(frozen=True)
class Skipped:
    """A file or folder that is not read.

    Attributes:
        path: The path of the file.
        reason: Why it is not read.
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class Found:
    """A file to read.

    Attributes:
        path: The path of the file.
        named: Whether the user named it, rather than a folder around it.
    """

    path: Path
    named: bool = False


def find_files(
    paths: Iterable[str | os.PathLike[str]], *, exclude: Sequence[str] = ()
) -> Iterator[Found | Skipped]:
    """Yields the files at and below some paths, each once, in the order of their names.

    Hidden files and folders below a path are left out, and so is what a `.gitignore` there, or in a folder
    above within the same repository, leaves out. Links are followed; a folder that was seen is not entered
    again. A path that the user names is read even if it is ignored.

    Args:
        paths: Files and folders.
        exclude: Patterns in the language of `.gitignore`, counted from each path.

    Raises:
        InputError: If a path does not exist.
    """
    starts = [Path(path) for path in paths]
    for path in starts:
        if not path.exists():
            raise InputError(f"{path} does not exist", fix="name a file or a folder that is there")
    walk = _Walk(IgnoreRules(exclude))
    for path in starts:
        if path.is_dir():
            yield from walk.folder(path)
        elif not path.is_file():
            yield Skipped(path, "neither a file nor a folder")  # a pipe or a device may never end
        elif walk.first_time(path):
            yield Found(path, named=True)


class _Walk:
    def __init__(self, exclude: IgnoreRules) -> None:
        self._exclude = exclude
        self._seen: set[tuple[int, int] | str] = set()

    def first_time(self, path: Path) -> bool:
        """Remembers a file or folder, and tells whether it is a new one."""
        status = path.stat()
        # Windows has no numbers for files in some file systems.
        key = (status.st_dev, status.st_ino) if status.st_ino else str(path.resolve())
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def folder(self, top: Path) -> Iterator[Found | Skipped]:
        repository, rules = _rules_above(top)
        # An own stack: folders may be nested deeper than Python's calls may be.
        pending: list[tuple[Path, str, list[IgnoreRules]]] = [(top, "", rules)]
        while pending:
            folder, inside, rules = pending.pop()
            try:
                if not self.first_time(folder):
                    yield Skipped(folder, "a link to a folder that was read already")
                    continue
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                yield Skipped(folder, _reason(error))
                continue
            counted = "/".join(part for part in (repository, inside) if part)
            rules = [*rules, _read_rules(folder, counted)]
            deeper = []
            for entry in entries:
                place = f"{inside}/{entry.name}" if inside else entry.name
                try:
                    is_folder, is_file = entry.is_dir(), entry.is_file()
                except OSError as error:
                    yield Skipped(Path(entry.path), _reason(error))
                    continue
                if entry.name.startswith(".") or self._exclude.verdict(place, is_folder=is_folder):
                    continue
                whole = f"{repository}/{place}" if repository else place
                if ignored(rules, whole, is_folder=is_folder):
                    continue
                if is_folder:
                    deeper.append((Path(entry.path), place, rules))
                elif is_file:
                    yield from self._file(Path(entry.path))
                elif entry.is_symlink():
                    yield Skipped(Path(entry.path), "a link to nothing")
            pending += reversed(deeper)

    def _file(self, path: Path) -> Iterator[Found | Skipped]:
        try:
            if self.first_time(path):
                yield Found(path)
        except OSError as error:
            yield Skipped(path, _reason(error))


def _rules_above(top: Path) -> tuple[str, list[IgnoreRules]]:
    """Returns the path of a folder within its git repository, and the rules of the folders above it."""
    top = top.resolve()
    root = next((folder for folder in (top, *top.parents) if (folder / ".git").exists()), None)
    if root is None or root == top:
        return "", []
    inside = top.relative_to(root).parts
    folders = [root.joinpath(*inside[:depth]) for depth in range(len(inside))]
    rules = [_read_rules(folder, folder.relative_to(root).as_posix()) for folder in folders]
    return "/".join(inside), rules


def _read_rules(folder: Path, inside: str) -> IgnoreRules:
    try:
        text = (folder / IGNORE_FILE).read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return _NO_RULES
    return IgnoreRules(text.splitlines(), "" if inside == "." else inside)


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "deleted while the folder was read"
    return (error.strerror or str(error)).lower()
