"""Which numbers a recipe may have."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from edge_embed.errors import InputError

LEAST = dict.fromkeys(
    [
        *("steps", "batch_size", "members", "among", "texts", "neighbours", "teacher_batch_size", "length"),
        *("vocabulary", "layers", "hidden", "heads", "head_dim", "inner"),
    ],
    1,
)
"""The least value of numbers; that of others is 0."""

ABOVE_0 = ("learning_rate", "temperature", "mixture_temperature", "concentration", "layer_gain")
"""Numbers that must be more than 0."""

SHARES = ("warmup", "prior")
"""Numbers from 0 to 1."""


def is_number(value: object) -> bool:
    """Returns whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_ranges(section: Any, where: str) -> None:
    """Refuses numbers that cannot be meant.

    Args:
        section: A part of a recipe.
        where: What messages call it.

    Raises:
        InputError: If a number is out of its range, or not finite.
    """
    for each in fields(section):
        value = getattr(section, each.name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        least = LEAST.get(each.name, 0)
        if each.name in ABOVE_0:
            fits, expected = value > 0, "more than 0"
        elif each.name in SHARES:
            fits, expected = 0 <= value <= 1, "0 to 1"
        else:
            fits, expected = value >= least, f"{least} or more"
        if not (fits and math.isfinite(value)):
            size = "too small" if value < least else "out of range"
            raise InputError(f"{where}: {each.name} is {size}", got=str(value), expected=expected)
