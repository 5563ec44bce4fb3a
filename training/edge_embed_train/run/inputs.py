"""What a training stage is fed: tables, teacher vectors, hard negatives, and the prompts before the texts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError

from edge_embed.errors import InputError
from edge_embed.progress import progress_bar
from edge_embed_convert.source.files import TOKENIZER_FILES, read_json
from edge_embed_train.data import (
    StoredVectors,
    Table,
    build_table,
    mine_negatives,
    principal_axes,
    proportions,
    teacher_vectors,
)
from edge_embed_train.data.teacher import Vectors
from edge_embed_train.quiet import quiet
from edge_embed_train.recipe import DataSet, Recipe, StudentStage, TrainStage
from edge_embed_train.run.folder import RunFolder

Advance = Callable[[int], object]

LOAD_ERRORS = (OSError, ValueError, KeyError, TypeError, SafetensorError)
"""What sentence-transformers raises for a checkpoint that is damaged or incomplete."""


def require_files(recipe: Recipe) -> None:
    """Checks that the files of all stages are there, before the first one is trained.

    Raises:
        InputError: If one is missing.
    """
    used = dict.fromkeys(name for stage in recipe.stages for name in stage.data)
    paths = [recipe.data[name].source.path for name in used]
    for path in (*paths, Path(recipe.teacher_file) if recipe.teacher_file else None):
        if path is not None and not path.expanduser().is_file():
            raise InputError(
                f"{path} cannot be read", got="no such file", expected="the file that the recipe names"
            )


def require_tokenizer(place: str | Path) -> None:
    """Refuses a directory without a tokenizer: transformers would make an empty one up.

    Raises:
        InputError: If a sentence-transformers directory whose first module is a Transformer has none.
    """
    directory = Path(place)
    if not (directory / "modules.json").is_file():
        return
    match read_json(directory / "modules.json"):
        case [{"type": str(kind), "path": str(first)}, *_] if kind.endswith(".Transformer"):
            encoder = directory / first
        case _:
            return
    if not any((encoder / name).is_file() for name in (*TOKENIZER_FILES, "spiece.model")):
        raise InputError(
            f"{directory} has no tokenizer",
            got="none of its files",
            expected=" or ".join(TOKENIZER_FILES),
            fix="copy the tokenizer's files from the original checkpoint",
        )


class Teacher:
    """The recipe's teacher, loaded when it is first asked.

    Args:
        name: A directory or a hub id.
        file: The same model as a file of `edge_embed convert`, which then computes the vectors.
        device: Where it computes; None lets sentence-transformers choose.
    """

    def __init__(self, name: str, file: str = "", device: str | None = None) -> None:
        self.name, self._file, self._device = name, file, device

    @cached_property
    def model(self) -> Any:
        """The model: sentence-transformers' or an `Embedder`, which have the methods that are used here.

        Raises:
            InputError: If it cannot be loaded.
        """
        if self._file:
            from edge_embed import Embedder

            return Embedder(self._file, overflow="truncate")
        from sentence_transformers import SentenceTransformer

        require_tokenizer(self.name)
        try:
            with quiet():
                return SentenceTransformer(self.name, device=self._device)
        except LOAD_ERRORS as error:
            raise InputError(f"the teacher {self.name} cannot be loaded", got=str(error)[:200]) from error

    @property
    def dimension(self) -> int:
        """Of its vectors."""
        return int(self.model.get_embedding_dimension())

    @cached_property
    def fingerprint(self) -> str:
        """Names its weights and settings."""
        digest = hashlib.blake2b(digest_size=8)
        if self._file:
            try:
                digest.update(Path(self._file).read_bytes())
            except OSError as error:
                raise InputError(f"the teacher's file {self._file} cannot be read", got=str(error)) from error
            return digest.hexdigest()
        # Settings too: with another pooling the same weights give other vectors.
        suffixes = (".safetensors", ".bin", ".json", ".model")
        files = sorted(file for file in Path(self.name).rglob("*") if file.suffix in suffixes)
        for file in files:
            digest.update(file.read_bytes())
        if not files:
            digest.update(self.name.encode())
        return digest.hexdigest()


@dataclass
class StageInputs:
    """What one stage is fed.

    Attributes:
        tables: By name; with hard negatives if the stage mines them.
        shares: Share of batches of each table, in the same order.
        prompts: By table and column.
        vectors: The teacher's, if the loss needs them.
    """

    tables: dict[str, Table]
    shares: list[float]
    prompts: dict[str, dict[str, str]]
    vectors: StoredVectors | None = field(default=None)

    def datasets(self) -> dict[str, Any]:
        """Returns the tables as data sets whose row numbers count through all of them."""
        found, first = {}, 0
        for name, table in self.tables.items():
            found[name] = table.dataset(first)
            first += table.rows
        return found


def prepare_inputs(
    recipe: Recipe, stage: TrainStage, folder: RunFolder, teacher: Teacher | None, prompts: Mapping[str, str]
) -> StageInputs:
    """Builds everything that a stage is fed, or takes it from an earlier run.

    Args:
        recipe: The recipe.
        stage: The stage.
        folder: Where it is kept.
        teacher: The teacher, if there is one.
        prompts: The model's prompts by name.

    Raises:
        InputError: If data cannot be used for the stage.
    """
    inputs = StageInputs({}, [], {})
    store = None
    if teacher is not None and stage.loss.needs_teacher:
        axes = np.load(folder.axes) if folder.axes.is_file() else None
        store = StoredVectors(teacher.dimension, axes)
    first = 0
    for name in stage.data:
        with progress_bar(None, f"reading {name}", unit="row") as advance:
            table = build_table(name, recipe.data[name].source, folder.data, advance)
        folder.require_same(table)
        _check_table(table, stage)
        columns, negatives = [], None
        if stage.needs_teacher and teacher is not None:
            columns = _vectors_of(recipe, table, folder, teacher)
        if stage.hard_negatives is not None and table.columns == ("query", "positive"):
            with progress_bar(table.rows, f"hard negatives of {name}", unit="row") as advance:
                table, negatives = mine_negatives(
                    table,
                    columns[0],
                    columns[1],
                    folder.data,
                    margin=stage.hard_negatives.margin,
                    among=stage.hard_negatives.among,
                    seed=recipe.seed,
                    advance=advance,
                )
        if store is not None:
            store.add(first, columns, negatives)
        first += table.rows
        inputs.tables[name] = table
        inputs.prompts[name] = prompts_of(recipe.data[name], prompts, table)
    sizes = proportions([table.rows for table in inputs.tables.values()], stage.mixture_temperature)
    named = [
        stage.shares.get(name, 0.0 if stage.shares else size)
        for name, size in zip(inputs.tables, sizes, strict=True)
    ]
    inputs.shares = [share / sum(named) for share in named]
    inputs.vectors = store
    return inputs


def teacher_axes(
    recipe: Recipe, stage: StudentStage, folder: RunFolder, teacher: Teacher
) -> npt.NDArray[np.float32]:
    """Returns the principal axes of the teacher's vectors of a stage's data, and keeps them for later stages.

    Args:
        recipe: The recipe.
        stage: The stage.
        folder: Where they are kept.
        teacher: The teacher.
    """
    tables = [build_table(name, recipe.data[name].source, folder.data, lambda _: None) for name in stage.data]
    axes = principal_axes([_vectors_of(recipe, table, folder, teacher) for table in tables])
    np.save(folder.axes, axes)
    return axes


def _vectors_of(recipe: Recipe, table: Table, folder: RunFolder, teacher: Teacher) -> list[Vectors]:
    """Returns the teacher's vectors of a table, by column."""
    data = recipe.data[table.name]
    with progress_bar(table.rows * len(table.columns), f"teacher vectors of {table.name}") as advance:
        return teacher_vectors(
            lambda: teacher.model,
            teacher.fingerprint,
            table,
            folder.teacher,
            prompts=prompts_of(data, teacher_prompts(teacher, data), table),
            batch_size=recipe.teacher_batch_size,
            advance=advance,
        )


def teacher_prompts(teacher: Teacher, data: DataSet) -> Mapping[str, str]:
    """Returns the teacher's prompts, none where the data set names none."""
    named = data.query_prompt or data.positive_prompt
    return dict(teacher.model.prompts or {}) if named else {}


def prompts_of(data: DataSet, prompts: Mapping[str, str], table: Table) -> dict[str, str]:
    """Returns the prompt before the texts of each column of a table, where the data set names one.

    Raises:
        InputError: If the model has prompts and none of that name.
    """
    for name in (data.query_prompt, data.positive_prompt):
        if name is not None and prompts and name not in prompts:
            raise InputError(
                f"the data set {table.name} names a prompt that the model does not have",
                got=name,
                expected=", ".join(prompts),
            )
    names = {"query": data.query_prompt, "positive": data.positive_prompt, "negative": data.positive_prompt}
    return {
        column: prompts[name]
        for column in table.columns
        if (name := names[column]) is not None and prompts.get(name)
    }


def _check_table(table: Table, stage: TrainStage) -> None:
    if table.rows < 2:
        raise InputError(
            f"the data set {table.name} is too small", got=f"{table.rows} row", expected="2 rows or more"
        )
    if stage.loss.needs_positives and "positive" not in table.columns and not stage.loss.needs_teacher:
        raise InputError(
            f"the data set {table.name} has no positives, which the contrastive loss of {stage.name} needs",
            got=", ".join(table.columns),
            expected="query and positive",
            fix="name pairs, or set loss.nce = 0 and give the stage a teacher",
        )
