"""Warnings that point at the caller's line, however deep in this package they arise."""

from __future__ import annotations

import contextlib
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol


class Source(Protocol):
    """Something to warn about."""

    def notices(self) -> Sequence[Notice]:
        """Returns the warnings to give."""
        ...


class Notice(NamedTuple):
    """One warning, which is also a `Source` of itself.

    Attributes:
        message: What it says.
        category: Its class.
    """

    message: str
    category: type[Warning]

    def notices(self) -> Sequence[Notice]:
        """Returns itself."""
        return (self,)


class _Receivers(threading.local):
    """The functions of this thread that may take a warning, the outermost first."""

    def __init__(self) -> None:
        self.stack: list[Callable[[Source], bool]] = []


_receivers = _Receivers()


@contextlib.contextmanager
def hold_warnings(receive: Callable[[Source], bool]) -> Iterator[None]:
    """Gives the warnings of this thread within the block to a function.

    Args:
        receive: Gets each source of warnings. It returns whether it has taken it; what it has not taken is
            given to the block around this one, or appears.
    """
    _receivers.stack.append(receive)
    try:
        yield
    finally:
        _receivers.stack.pop()


def warn(message: str, category: type[Warning]) -> None:
    """Warns as if the line that called this package had done so."""
    warn_of(Notice(message, category))


def warn_of(source: Source) -> None:
    """Warns of everything that a source has to say, as `warn` does."""
    if any(receive(source) for receive in reversed(_receivers.stack)):
        return
    level = 2  # the caller of this function
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] == "edge_embed":
        frame, level = frame.f_back, level + 1
    for notice in source.notices():
        warnings.warn(notice.message, notice.category, stacklevel=level)
