"""Quality scores, read from the output of `edge_embed eval --json`."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from edge_embed.errors import InputError


def read_scores(path: Path) -> dict[str, float]:
    """Returns each model's mean score over the sets of an evaluation, at its largest dimension.

    Args:
        path: A file of `edge_embed eval`.

    Raises:
        InputError: If it cannot be read or is something else.
    """
    try:
        raw = json.loads(path.read_bytes())
        values: dict[str, dict[str, dict[int, float]]] = {}
        for score in raw["scores"]:
            sets = values.setdefault(_text(score["model"]), {})
            sets.setdefault(_text(score["data"]), {})[int(score["dimension"])] = float(score["value"])
    except OSError as error:
        raise InputError(f"cannot read {path}", got=error.strerror or str(error)) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} holds no scores",
            got=f"{type(error).__name__}: {error}",
            expected="what edge_embed eval --json printed",
        ) from error
    return {model: fmean(dims[max(dims)] for dims in sets.values()) for model, sets in values.items()}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a name")
    return value
