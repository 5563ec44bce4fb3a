"""The families of encoders: one folder holds everything of a family.

Others may use `FAMILIES`, `family_of`, and what `family` defines. To read them takes no PyTorch.

To add a family, add a folder here whose `__init__` exports `FAMILY` and whose `encoder` holds the graph, a
test of the same name, and a line in the table of docs/converting.md. The registry finds the folder.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from edge_embed.errors import CheckpointError
from edge_embed_convert.families.family import EncoderConfig, Family, Projection, RandomTensor, Released

__all__ = [
    "FAMILIES",
    "EncoderConfig",
    "Family",
    "Projection",
    "RandomTensor",
    "Released",
    "family_named",
    "family_of",
]


def _families() -> tuple[Family, ...]:
    folders = [module.name for module in pkgutil.iter_modules(__path__) if module.ispkg]
    return tuple(importlib.import_module(f"{__name__}.{name}").FAMILY for name in sorted(folders))


FAMILIES: tuple[Family, ...] = _families()
"""Every family, in alphabetical order of the folders."""


def family_of(config: Mapping[str, Any]) -> Family:
    """Returns the family of a config.json by its `model_type`.

    Raises:
        CheckpointError: If no family covers it, with the list of those that are known.
    """
    model_type = config.get("model_type")
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    raise CheckpointError(
        "no encoder for this architecture",
        got=f"model_type = {model_type!r}",
        expected=" or ".join(repr(t) for family in FAMILIES for t in family.model_types),
        fix="convert a checkpoint of one of these families; docs/converting.md lists them",
    )


def family_named(name: str) -> Family:
    """Returns the family of a name.

    Raises:
        KeyError: If there is none.
    """
    return {family.name: family for family in FAMILIES}[name]
