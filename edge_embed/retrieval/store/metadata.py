"""Metadata: what may be in it, how it is stored, and the filter language of `where`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edge_embed.errors import InputError

Scalar = str | int | float | bool
Where = Mapping[str, Any]

_RANGE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_OPERATORS = (*_RANGE, "exists")
_SMALLEST, _GREATEST = -(2**63), 2**63 - 1
_DEEPEST = 32
_MOST_FIELDS = 100
"""SQLite limits how long a condition may be."""


def check_metadata(metadata: object, name: str) -> str:
    """Returns the metadata of a document as JSON text, keys sorted.

    Args:
        metadata: A mapping from strings to strings, numbers, booleans, None, lists and mappings of these.
        name: The document's id, for the message.

    Raises:
        InputError: If it is anything else.
    """
    if metadata is None:
        return "{}"
    if not isinstance(metadata, Mapping):
        raise _unusable(name, "", type(metadata).__name__, "a mapping")
    plain = _plain(metadata, name, "", 0)
    return json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _plain(value: Any, name: str, path: str, depth: int) -> Any:
    if depth > _DEEPEST:
        raise _unusable(name, path, "a value nested too deeply", f"at most {_DEEPEST} levels")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _check_string(value, name, path)
    if isinstance(value, int):
        if not _SMALLEST <= value <= _GREATEST:
            raise _unusable(
                name, path, "a whole number of more than 64 bits", "a string, or a smaller number"
            )
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _unusable(name, path, repr(value), "a finite number")
        return float(value)
    if isinstance(value, Mapping):
        result = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise _unusable(name, path, f"the key {key!r}", "keys that are strings")
            _check_string(key, name, path)
            result[key] = _plain(item, name, f"{path}.{key}" if path else key, depth + 1)
        return result
    if isinstance(value, (list, tuple)):
        return [_plain(item, name, path, depth + 1) for item in value]
    raise _unusable(
        name, path, f"a value of type {type(value).__name__}", "str, int, float, bool, None, list or dict"
    )


def _check_string(text: str, name: str, path: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _unusable(name, path, "a lone surrogate", "text that can be encoded as UTF-8") from None
    return str(text)


def _unusable(name: str, path: str, got: str, expected: str) -> InputError:
    where = f" in field {path!r}" if path else ""
    return InputError(
        f"the metadata of document {name!r} cannot be stored", got=f"{got}{where}", expected=expected
    )


def fields(metadata: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Scalar]]:
    """Yields each name and value that `where` can find.

    A nested mapping gives names with dots, ``author.name``; a list gives each of its values; None gives
    nothing, so that a field that is None counts as absent.
    """
    for key, value in metadata.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from fields(value, f"{name}.")
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, (str, int, float)):
                    yield name, item
        elif value is not None:
            yield name, value


def condition(where: Where | None) -> tuple[str, list[Scalar]]:
    """Returns a filter as SQL over ``documents.id`` with its parameters; "" for no filter.

    Each field of `where` must hold: a string, number or boolean asks for equality (for a list in the
    metadata: that one of its values is equal); a list for equality with one of its values; a mapping of
    "gt", "gte", "lt", "lte" for a range; ``{"exists": True}`` or ``{"exists": False}`` for the field's
    presence; None is the same as ``{"exists": False}``. Numbers are compared with numbers and strings with
    strings, by code point.

    Raises:
        InputError: If it is anything else.
    """
    if where is None:
        return "", []
    if not isinstance(where, Mapping):
        raise InputError("where cannot be used", got=type(where).__name__, expected="a mapping of fields")
    if len(where) > _MOST_FIELDS:
        raise InputError("where has too many fields", got=str(len(where)), expected=f"at most {_MOST_FIELDS}")
    clauses: list[str] = []
    values: list[Scalar] = []
    for name, wanted in where.items():
        if not isinstance(name, str):
            raise InputError("a field in where is not a string", got=repr(name))
        clause, more = _one(_check_value(name, name), wanted)
        clauses.append(clause)
        values += more
    return " AND ".join(clauses), values


def _one(name: Any, wanted: Any) -> tuple[str, list[Scalar]]:
    if wanted is None:
        return _absent(name)
    if isinstance(wanted, (str, int, float)):
        return _in("name = ? AND value = ?"), [name, _check_value(name, wanted)]
    if isinstance(wanted, Mapping):
        return _operators(name, wanted)
    if isinstance(wanted, Sequence) and not isinstance(wanted, (bytes, bytearray)):
        if not wanted:
            return "0", []
        options = [_check_value(name, item) for item in wanted]
        # One parameter, whatever their number: SQLite limits how many there may be.
        return (
            _in("name = ? AND value IN (SELECT value FROM json_each(?))"),
            [name, json.dumps(options, ensure_ascii=False)],
        )
    raise _unknown(name, wanted)


def _operators(name: str, wanted: Mapping[Any, Any]) -> tuple[str, list[Scalar]]:
    if not wanted or any(key not in _OPERATORS for key in wanted):
        raise InputError(
            f"where[{name!r}] cannot be used",
            got=f"operators {', '.join(map(repr, wanted)) or 'none'}",
            expected=", ".join(_OPERATORS),
        )
    ranges = [(key, value) for key, value in wanted.items() if key in _RANGE]
    clauses: list[str] = []
    values: list[Scalar] = []
    if "exists" in wanted:
        if not isinstance(wanted["exists"], bool):
            raise InputError(
                f"where[{name!r}] cannot be used", got=repr(wanted["exists"]), expected="a boolean"
            )
        clause, more = (_in("name = ?"), [name]) if wanted["exists"] else _absent(name)
        clauses.append(clause)
        values += more
    if ranges:
        # In one subquery, so that one value of a list must meet both ends.
        parts: list[str] = ["name = ?"]
        more = [name]
        for key, given in ranges:
            bound = _check_value(name, given)
            kinds = "('text')" if isinstance(bound, str) else "('integer', 'real')"
            parts.append(f"value {_RANGE[key]} ? AND typeof(value) IN {kinds}")
            more.append(bound)
        clauses.append(_in(" AND ".join(parts)))
        values += more
    return " AND ".join(clauses), values


def _in(test: str) -> str:
    return f"documents.id IN (SELECT document FROM fields WHERE {test})"


def _absent(name: Scalar) -> tuple[str, list[Scalar]]:
    return "documents.id NOT IN (SELECT document FROM fields WHERE name = ?)", [name]


def _check_value(name: str, value: Any) -> Any:
    usable = isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))
    if not usable or (isinstance(value, int) and not _SMALLEST <= value <= _GREATEST):
        raise _unknown(name, value)
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise _unknown(name, value) from None
    return value


def _unknown(name: str, value: Any) -> InputError:
    return InputError(
        f"where[{name!r}] cannot be used",
        got=f"{type(value).__name__} {value!r}"[:200],
        expected="a string, number or boolean, a list of these, None, or a mapping of "
        + ", ".join(_OPERATORS),
    )
