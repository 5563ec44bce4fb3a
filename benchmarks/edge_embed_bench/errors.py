"""Errors of the benchmark, beside those of `edge_embed.errors`."""

from __future__ import annotations

from edge_embed.errors import EdgeEmbedError


class MeasurementError(EdgeEmbedError):
    """A clock, a memory reading or a record that cannot be true."""


class WorkerError(EdgeEmbedError):
    """A measuring process died, hung, or reported that it failed."""


class TargetError(EdgeEmbedError):
    """A target that is absent, refuses us, breaks off, or lacks what it needs."""


def one_line(error: BaseException) -> str:
    """Returns what an error says, on one line, as a record and a row of a table hold it."""
    lines = [line.strip() for line in str(error).splitlines()]
    return "; ".join(line for line in lines if line) or type(error).__name__
