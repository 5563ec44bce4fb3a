"""Checks of the texts that a user passes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MappingView, Set
from typing import Any

from edge_embed.errors import InputError

_CHECKED_AT_ONCE = 1 << 20
"""Characters that are encoded at a time, so that checking a long text needs no copy of it."""


def as_texts(sentences: Any) -> tuple[list[str], bool]:
    """Returns the texts as a list, and whether there was only one, not in a list.

    Raises:
        InputError: If an item is not a usable text.
    """
    if hasattr(sentences, "tolist"):  # numpy arrays, also of no dimension, and pandas series
        sentences = sentences.tolist()
    if isinstance(sentences, str):
        return [check_text(sentences, 0)], True
    if isinstance(sentences, (bytes, bytearray, Mapping)) or not isinstance(sentences, Iterable):
        raise InputError(
            "not a text or a list of texts", got=type(sentences).__name__, expected="str or list[str]"
        )
    if isinstance(sentences, (Set, MappingView)):
        raise InputError(
            "the texts have no order, so vectors cannot be assigned to them",
            got=type(sentences).__name__,
            expected="str or list[str]",
            fix="pass sorted(texts) or list(texts), and keep it",
        )
    return [check_text(text, index) for index, text in enumerate(sentences)], False


def check_text(text: object, index: int) -> str:
    """Returns `text` if it is a string that can be encoded as UTF-8.

    Args:
        text: What the user passed.
        index: Its place in the list, for the message.

    Raises:
        InputError: If it is not a string or holds a lone surrogate.
    """
    if not isinstance(text, str):
        raise InputError(
            f"item {index} is not a text", got=type(text).__name__, expected="str", fix="pass only strings"
        )
    for start in range(0, len(text), _CHECKED_AT_ONCE):
        try:
            text[start : start + _CHECKED_AT_ONCE].encode("utf-8")
        except UnicodeEncodeError as error:
            place = start + error.start
            raise InputError(
                f"text {index} holds a lone surrogate, which no tokenizer can read",
                got=f"{text[place]!r} at position {place}",
                expected="text that can be encoded as UTF-8",
                fix='text.encode("utf-8", "replace").decode()',
            ) from error
    return text
