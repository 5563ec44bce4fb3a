"""A folder of Parquet files, one output for each: which are to be done, which are done already."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_embed.bulk.formats import open_output, parquet_facts
from edge_embed.bulk.job import DEFAULT_PROMPT, Prompting, facts_of
from edge_embed.bulk.rows import ALL_DEFAULT, TEXT_FIELD, Fields, import_pyarrow
from edge_embed.errors import InputError

if TYPE_CHECKING:
    from edge_embed.embedder import Embedder

SUFFIX = ".parquet"


@dataclass(frozen=True)
class Piece:
    """One file of the input.

    Attributes:
        source: The file.
        output: Where its vectors go.
        facts: What decides them; see `Progress`.
        rows: How many rows it has.
        done: Whether the output is there already.
    """

    source: str
    output: Path
    facts: Mapping[str, Any]
    rows: int
    done: bool


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
    files = find_files(source)
    base = Path(os.path.commonpath([path.parent for path in files]))
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is not a folder", fix="name a folder: --output out/")
    pieces = []
    for file in files:
        target = output / file.relative_to(base)
        facts = facts_of(model, str(file), fields, prompting)
        rows = _count_rows(file, fields)
        done = not restart and target.exists()
        if done:
            _require_same(target, facts)
        pieces.append(Piece(str(file), target.absolute(), facts, rows, done))
    for piece in pieces:
        piece.output.parent.mkdir(parents=True, exist_ok=True)
        if restart:
            discard(piece, model.get_embedding_dimension())
    return pieces


def find_files(source: str) -> list[Path]:
    """Returns the files that a folder or a pattern names, absolute, in the order of their names.

    Raises:
        InputError: If there is none, or one does not end in `.parquet`.
    """
    pattern = os.path.join(source, f"*{SUFFIX}") if os.path.isdir(source) else source
    files = sorted(Path(name).absolute() for name in glob.glob(pattern, recursive=True))
    if not files:
        raise InputError(
            f"no file matches {source}", expected="a folder with .parquet files, or a pattern: 'in/*.parquet'"
        )
    wrong = [path for path in files if path.suffix.lower() != SUFFIX]
    if wrong:
        raise InputError(f"{wrong[0]} is not Parquet", got=f"the ending {wrong[0].suffix!r}", expected=SUFFIX)
    return files


def discard(piece: Piece, dimension: int) -> None:
    """Removes what an unfinished run has left of a piece. A finished output stays until it is replaced."""
    target = open_output(piece.output, piece.facts, dimension)
    try:
        target.begin(resume=False, restart=True)
    finally:
        target.close()


def _count_rows(path: Path, fields: Fields) -> int:
    pyarrow = import_pyarrow("reading Parquet")
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            rows = int(file.metadata.num_rows)
    except OSError as error:
        raise InputError(f"cannot read {path}", got=error.strerror or str(error)) from error
    except pyarrow.ArrowException as error:
        raise InputError(f"{path} is not a Parquet file that can be read", got=str(error)) from error
    for name, option in ((fields.text or TEXT_FIELD, "--field"), (fields.title, "--titles-field")):
        if name is not None and name not in names:
            raise InputError(
                f"{path}: no column {name!r}", got=", ".join(names), fix=f"name the column with {option}"
            )
    return rows


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
