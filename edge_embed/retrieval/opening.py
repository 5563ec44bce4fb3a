"""What opening an index needs: its model, and the settings of a new one."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from edge_embed.default_model import PATH
from edge_embed.errors import IndexModelError, InputError
from edge_embed.retrieval.cutter import default_sizes
from edge_embed.retrieval.options import Options
from edge_embed.retrieval.store import schema
from edge_embed.retrieval.store.database import Database
from edge_embed.retrieval.store.settings import Encoder, Fingerprint, Settings


def load_model(model: Encoder | str | os.PathLike[str]) -> Encoder:
    """Returns the model, loaded if it is the path of a model file.

    Raises:
        InputError: If it is neither a path nor a model.
    """
    if isinstance(model, (str, os.PathLike)):
        from edge_embed.embedder import Embedder

        return Embedder(model)
    if not isinstance(model, Encoder):
        raise InputError(
            "the model cannot be used",
            got=type(model).__name__,
            expected="an Embedder, or the path of a model file",
        )
    return model


def path_to_record(model: Encoder, index: Path) -> str:
    """Returns the path of the model file as an index keeps it, empty if the model has none.

    A model file in the folder of the index, or below, is kept relative to it: both may be moved together.
    """
    path = getattr(model, "path", None)
    if path is None:
        return ""
    absolute, folder = Path(path).resolve(), index.resolve().parent
    return absolute.relative_to(folder).as_posix() if absolute.is_relative_to(folder) else str(absolute)


def recorded_path(settings: Settings, index: Path) -> Path:
    """Returns the model file that the index was made with.

    Args:
        settings: The settings of the index.
        index: The file of the index.

    Raises:
        IndexModelError: If it is gone.
    """
    recorded = index.resolve().parent / settings.model_path
    if recorded.name == PATH.name and not recorded.is_file():
        recorded = PATH  # the package's own model, which is elsewhere on each machine
    if not settings.model_path or not recorded.is_file():
        raise IndexModelError(
            "the model file of the index is not there",
            got=str(recorded) if settings.model_path else "no path is recorded",
            expected=settings.model,
            fix="name the model file: Index.open(path, model), or --model; mode='text' needs none",
        )
    return recorded


def recorded_model(settings: Settings, index: Path) -> Encoder:
    """Loads the model file that the index was made with.

    Args:
        settings: The settings of the index.
        index: The file of the index.

    Raises:
        IndexModelError: If it is gone, or another model is there now.
    """
    model = load_model(recorded_path(settings, index))
    settings.require_model(model)
    return model


def create(database: Database, options: Options, model: Encoder | None) -> None:
    """Makes a new index if there is none.

    Args:
        database: The file.
        options: What was asked for.
        model: The model; None only where there is an index.

    Raises:
        InputError: If the options do not fit the model.
    """
    if model is None or os.path.exists(database.path):
        return
    settings = settings_for(model, options, database.path)

    def fill(connection: sqlite3.Connection) -> None:
        schema.create(connection)
        schema.create_lexical(connection, settings.lexical)
        settings.save(connection)

    database.create(fill)


def settings_for(model: Encoder, options: Options, index: Path) -> Settings:
    """Returns the settings of an index of this model.

    Args:
        model: The model.
        options: What was asked for.
        index: The file of the index.

    Raises:
        InputError: If the options do not fit the model.
    """
    most = model.get_embedding_dimension()
    dimension = options.dimension or most
    if dimension > most:
        raise InputError(
            "dimension is larger than the model's vectors", got=str(dimension), expected=f"1 to {most}"
        )
    size, overlap = default_sizes(model, options.chunk_tokens, options.overlap)
    fingerprint = Fingerprint.of(model)
    return Settings(
        fingerprint.name,
        fingerprint.graph,
        fingerprint.tokenizer,
        fingerprint.prompts,
        dimension,
        options.vectors or "int8",
        options.lexical or "auto",
        size,
        overlap,
        path_to_record(model, index),
    )
