"""Names given on the command line, looked up in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from edge_embed.errors import InputError

T = TypeVar("T")


def choose(kind: str, names: Sequence[str], known: Mapping[str, T]) -> list[T]:
    """Returns the entries of a table.

    Raises:
        InputError: If a name is not in it; the message lists those that are.
    """
    for name in names:
        if name not in known:
            raise InputError(f"unknown {kind}", got=repr(name), expected=", ".join(known))
    return [known[name] for name in unique(names)]


def unique(items: Sequence[T]) -> list[T]:
    """Returns the items in their order, each once."""
    return list(dict.fromkeys(items))
