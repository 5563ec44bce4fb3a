"""Dataclasses from parsed JSON, every type checked on the way down."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any

from edge_embed.errors import InputError


def parse(kind: Any, value: Any, where: str) -> Any:
    """Builds `kind`, a dataclass or a type that one of its fields has, from parsed JSON.

    Unknown keys are ignored: a later version of the same schema may add some.

    Args:
        kind: The type wanted.
        value: What JSON held.
        where: The field's place, for the message.

    Raises:
        InputError: If a field is missing or of another type.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _parse_dataclass(kind, value, where)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else parse(args[0], value, where)
    if origin is list and isinstance(value, list):
        return [parse(args[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {key: parse(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is None and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    expected = getattr(kind, "__name__", str(kind)) if origin is None else origin.__name__
    raise InputError(f"{where} has the wrong type", got=type(value).__name__, expected=expected)


def _parse_dataclass(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise InputError(f"{where} is not an object", got=type(value).__name__)
    fields = dataclasses.fields(kind)
    if missing := [f.name for f in fields if f.name not in value]:
        raise InputError(f"{where} lacks fields", got=", ".join(missing), expected="a complete record")
    hints = typing.get_type_hints(kind)
    return kind(**{f.name: parse(hints[f.name], value[f.name], f"{where}.{f.name}") for f in fields})
