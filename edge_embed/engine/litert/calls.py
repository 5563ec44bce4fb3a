"""How LiteRT is called: in a thread that no interrupt reaches, with its log captured. And how it fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from edge_embed.engine.litert.log import Log, captured_log
from edge_embed.engine.uninterrupted import uninterrupted
from edge_embed.errors import RuntimeFailure

WRAPPER_ERRORS = (RuntimeError, ValueError, TypeError, IndexError)
"""What LiteRT's Python interface raises."""

T = TypeVar("T")


class LiteRtError(Exception):
    """A call of LiteRT that failed."""


class GraphClosedError(LiteRtError):
    """A graph was run after it had been closed."""


def quietly(action: Callable[[], T]) -> T:
    """Runs an action with LiteRT's log captured and forgotten."""

    def run() -> T:
        with captured_log():
            return action()

    return uninterrupted(run)


def call_litert(what: str, action: Callable[[], T]) -> T:
    """Runs an action with LiteRT's log captured, and turns its failure into a `RuntimeFailure`.

    Args:
        what: What went wrong if it fails, one sentence.
        action: What to do.

    Raises:
        RuntimeFailure: If LiteRT is missing or fails. It holds the error lines of the log.
    """

    def run() -> T:
        log = Log()
        try:
            with captured_log() as log:
                return action()
        except ImportError as error:
            raise RuntimeFailure(
                "LiteRT cannot be imported",
                got=str(error),
                fix="pip install --force-reinstall ai-edge-litert",
            ) from error
        except (*WRAPPER_ERRORS, LiteRtError) as error:
            details = "; ".join([str(error).replace("\n", " "), *log.errors])
            raise RuntimeFailure(what, got=details, fix="convert the model again") from error

    return uninterrupted(run)
