"""The model behind an adapter: how it is given, and what a saved pipeline keeps of it."""

from __future__ import annotations

import os
from typing import Any

from edge_embed import Embedder
from edge_embed.errors import InputError

Model = Embedder | str | os.PathLike[str]


def open_model(model: Model, **options: Any) -> Embedder:
    """Returns the model, loaded if it is a path.

    Args:
        model: An `Embedder`, or the path of a model file.
        options: Options of `Embedder` for a path; those that are None are left out.

    Raises:
        InputError: If options come with an `Embedder`, or the model is neither.
        ModelFileError: If the file is not one of ours.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if isinstance(model, Embedder):
        if given:
            raise InputError(
                "an Embedder has its options already",
                got=", ".join(given),
                fix="give them to Embedder(...), or give the path of the model file",
            )
        return model
    if not isinstance(model, (str, os.PathLike)):
        raise InputError(
            "the model cannot be used",
            got=type(model).__name__,
            expected="an Embedder, or the path of a model file",
        )
    return Embedder(model, **given)


def saved_options(model: Embedder) -> dict[str, Any]:
    """Returns the arguments that open the same model again: what decides its vectors.

    The number of threads is not among them, because it belongs to the machine.
    """
    return {"model": str(model.path), "truncate_dim": model.truncate_dim, "overflow": model.overflow}
