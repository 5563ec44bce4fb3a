"""JSON to dataclasses and back, for every format of this project that must stay readable.

The rules, for whoever changes a format:

- A field without a default must be there; a missing field with a default gets its default. So a new field
  with a default leaves all older files readable.
- A field that the dataclass does not have is ignored, and can be kept for when the object is written again.
  So a new field that an older reader may ignore needs no new schema version.
- The schema version rises only if an older reader would give a wrong answer.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any

from edge_embed.errors import EdgeEmbedError, InputError

Path = tuple[str | int, ...]
Unknown = dict[Path, dict[str, Any]]
"""Fields that no dataclass has: by the place of their object, their names and values."""

NOT_STORED = types.MappingProxyType({"stored": False})
"""Metadata of a dataclass field that is not part of the JSON."""


def from_json(
    kind: Any,
    value: Any,
    where: str,
    *,
    error: type[EdgeEmbedError] = InputError,
    fix: str | None = None,
    unknown: Unknown | None = None,
) -> Any:
    """Builds a dataclass, or a value of a type that its fields may have, from parsed JSON.

    Args:
        kind: The type wanted: a dataclass, str, int, float, bool, Any, or a list, dict or optional of these.
        value: What the JSON holds.
        where: How messages call the value.
        error: The class of the errors.
        fix: What the user can do, for the message.
        unknown: Receives the fields that the dataclasses do not have, if given.

    Raises:
        EdgeEmbedError: Of the class `error`, if a field is missing or has another type.
    """
    return _Reader(where, error, fix, unknown).read(kind, value, ())


def to_json(value: Any, unknown: Unknown | None = None) -> dict[str, Any]:
    """Returns a dataclass as a dictionary for `json.dumps`.

    Args:
        value: The dataclass.
        unknown: Fields to put back, as `from_json` collected them. A field is left out if its object no
            longer exists, or has a field of that name by now.
    """
    raw: dict[str, Any] = dataclasses.asdict(value)
    for field in dataclasses.fields(value):
        if field.metadata == NOT_STORED:
            del raw[field.name]
    for path, fields in (unknown or {}).items():
        holder = _follow(raw, path)
        if isinstance(holder, dict):
            holder.update({name: item for name, item in fields.items() if name not in holder})
    return raw


class _Reader:
    def __init__(
        self, where: str, error: type[EdgeEmbedError], fix: str | None, unknown: Unknown | None
    ) -> None:
        self.where, self.error, self.fix, self.unknown = where, error, fix, unknown

    def read(self, kind: Any, value: Any, path: Path) -> Any:
        origin, args = typing.get_origin(kind), typing.get_args(kind)
        if kind is Any:
            return value
        if dataclasses.is_dataclass(kind):
            return self._read_object(kind, value, path)
        if origin in (typing.Union, types.UnionType):
            return None if value is None else self.read(args[0], value, path)
        if origin is list and isinstance(value, list):
            return [self.read(args[0], item, (*path, i)) for i, item in enumerate(value)]
        if origin is dict and isinstance(value, dict):
            return {key: self.read(args[1], item, (*path, key)) for key, item in value.items()}
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return self._read_float(value, path)
        if origin is None and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
        expected = origin or kind
        raise self._refusal(
            "has the wrong type", path, type(value).__name__, getattr(expected, "__name__", str(expected))
        )

    def _read_object(self, kind: Any, value: Any, path: Path) -> Any:
        if not isinstance(value, Mapping):
            raise self._refusal("is not an object", path, type(value).__name__)
        fields = _fields(kind)
        if missing := [n for n, (_, required) in fields.items() if required and n not in value]:
            raise self._refusal("lacks fields", path, f"no {', '.join(missing)}")
        extra = {name: item for name, item in value.items() if name not in fields}
        if extra and self.unknown is not None:
            self.unknown[path] = extra
        return kind(
            **{
                name: self.read(hint, value[name], (*path, name))
                for name, (hint, _) in fields.items()
                if name in value
            }
        )

    def _read_float(self, value: int, path: Path) -> float:
        try:
            return float(value)
        except OverflowError:
            raise self._refusal("is out of range", path, "an integer that no float can hold") from None

    def _refusal(self, what: str, path: Path, got: str, expected: str | None = None) -> EdgeEmbedError:
        place = self.where + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path)
        return self.error(f"{place} {what}", got=got, expected=expected, fix=self.fix)


@functools.cache
def _fields(kind: type) -> dict[str, tuple[Any, bool]]:
    """Returns the stored fields of a dataclass: type, and whether the field must be there."""
    hints = typing.get_type_hints(kind)
    missing = dataclasses.MISSING
    return {
        f.name: (hints[f.name], f.default is missing and f.default_factory is missing)
        for f in dataclasses.fields(kind)
        if f.metadata != NOT_STORED
    }


def _follow(raw: Any, path: Path) -> Any:
    """Returns what is at a place, or None."""
    for part in path:
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return None
    return raw
