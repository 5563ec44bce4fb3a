"""A folder of Parquet files, one output for each: which are to be done, which are done already."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_embed.bulk.formats import open_output, parquet_facts
from edge_embed.bulk.job import DEFAULT_PROMPT, Prompting, facts_of
from edge_embed.bulk.parquet import count_rows
from edge_embed.bulk.rows import ALL_DEFAULT, Fields
from edge_embed.errors import InputError

if TYPE_CHECKING:
    from edge_embed.embedder import Embedder

SUFFIX = ".parquet"

FINISH_SECONDS = 60.0
"""How long another process may take to finish an output that is in its place already."""

Stamp = tuple[int, int]
"""Which file lies under a name: its number and when it was written."""


@dataclass(frozen=True)
class Piece:
    """One file of the input.

    Attributes:
        source: The file.
        output: Where its vectors go.
        facts: What decides them; see `Progress`.
        rows: How many rows it has.
        done: Whether the output is there already.
        stale: Which file the output was before the run, where it is to be done anew.
    """

    source: str
    output: Path
    facts: Mapping[str, Any]
    rows: int
    done: bool
    stale: Stamp | None = None

    def is_finished(self) -> bool:
        """Returns whether the output is there and is to be kept, also if it was finished meanwhile.

        Raises:
            InputError: If it is not from this model, these options and this input.
        """
        stamp = stamp_of(self.output)
        if stamp is None or stamp == self.stale:
            return False
        _require_same(self.output, self.facts)
        return True


def plan_pieces(
    model: Embedder,
    source: str,
    output: Path,
    *,
    fields: Fields = ALL_DEFAULT,
    prompting: Prompting = DEFAULT_PROMPT,
    restart: bool = False,
) -> list[Piece]:
    """Returns the pieces of a run, in the order of their names. Nothing is written but the output folders.

    Args:
        model: The model.
        source: A folder, or a pattern with `*`, `**` and `?`.
        output: The folder of the outputs. Folders below the input are repeated in it.
        fields: As for `embed_file`.
        prompting: As for `embed_file`.
        restart: Whether to do finished and unfinished pieces anew.

    Raises:
        InputError: If there is no file, one cannot be read or has no such column, or an output is not from
            this model, these options and this input.
    """
    files, base = find_files(source)
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is not a folder", fix="name a folder: --output out/")
    pieces = []
    for file in files:
        if output.exists() and _is_output(file, output):
            continue
        target = (output / file.relative_to(base)).absolute()
        if target.exists() and target.samefile(file):
            raise InputError(
                f"{file} would be replaced by its own output", fix="choose another output folder"
            )
        facts = facts_of(model, str(file), fields, prompting)
        stale = stamp_of(target) if restart else None
        piece = Piece(str(file), target, facts, count_rows(str(file), fields), False, stale)
        pieces.append(replace(piece, done=piece.is_finished()))
        if not restart and target.parent.is_dir():
            open_output(target, facts, model.get_embedding_dimension()).left()
    if not pieces:
        raise InputError(f"all files of {source} are outputs in {output}", fix="choose another output folder")
    for piece in pieces:
        if piece.done:
            _tidy(piece, model.get_embedding_dimension())
        _make_folder(piece.output.parent)
        if restart:
            discard(piece, model.get_embedding_dimension())
    return pieces


def find_files(source: str) -> tuple[list[Path], Path]:
    """Returns the files that a folder or a pattern names, in the order of their names, and their folder.

    All are absolute. The folder is the part of the pattern before the first wildcard.

    Raises:
        InputError: If there is none, or one does not end in `.parquet`.
    """
    pattern = os.path.join(glob.escape(source), f"*{SUFFIX}") if os.path.isdir(source) else source
    files = sorted(Path(name).absolute() for name in glob.glob(pattern, recursive=True))
    if not files:
        raise InputError(
            f"no file matches {source}", expected="a folder with .parquet files, or a pattern: 'in/*.parquet'"
        )
    wrong = [path for path in files if path.suffix.lower() != SUFFIX]
    if wrong:
        raise InputError(f"{wrong[0]} is not Parquet", got=f"the ending {wrong[0].suffix!r}", expected=SUFFIX)
    if os.path.isdir(source):
        return files, Path(source).absolute()
    folders = itertools.takewhile(
        lambda part: glob.escape(part) == part, Path(source).absolute().parent.parts
    )
    return files, Path(*folders)


def _tidy(piece: Piece, dimension: int) -> None:
    """Removes what a run that was killed at its very end has left beside the finished output."""
    target = open_output(piece.output, piece.facts, dimension)
    left = target.left()
    if left is None or not left.complete:
        return
    try:
        target.begin(resume=True, restart=False, patience=FINISH_SECONDS)
        target.finish()
    finally:
        target.close()


def rows_done(piece: Piece) -> int:
    """Returns how many rows of an unfinished piece are done, as its output says; 0 if it says nothing."""
    try:
        left = open_output(piece.output, piece.facts, 0).left()
    except (InputError, OSError):  # it is being made, or removed
        return 0
    return 0 if left is None else left.rows


def stamp_of(path: Path) -> Stamp | None:
    """Returns which file lies under a name; None if there is none."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_ino, status.st_mtime_ns


def discard(piece: Piece, dimension: int) -> None:
    """Removes what an unfinished run has left of a piece. A finished output stays until it is replaced."""
    target = open_output(piece.output, piece.facts, dimension)
    try:
        target.begin(resume=False, restart=True)
    finally:
        target.close()


def _is_output(file: Path, output: Path) -> bool:
    """Returns whether a file of the input is an output: the pattern reaches into their folder."""
    return file.resolve().is_relative_to(output.resolve()) and parquet_facts(file) is not None


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {path}", got=error.strerror or str(error)) from error


def _require_same(path: Path, facts: Mapping[str, Any]) -> None:
    stored = parquet_facts(path)
    if stored is None:
        raise InputError(
            f"{path} is there already and was not written by this command",
            fix="choose another output folder, or remove the file",
        )
    for name in {**stored, **facts}:
        if stored.get(name) != facts.get(name):
            raise InputError(
                f"{path} is there already, and its {name} was another",
                got=str(facts.get(name)),
                expected=str(stored.get(name)),
                fix="choose another output folder, or do everything anew with --restart",
            )
