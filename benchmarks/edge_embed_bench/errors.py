"""Errors of the benchmark, beside those of `edge_embed.errors`."""

from __future__ import annotations

from edge_embed.errors import EdgeEmbedError


class MeasurementError(EdgeEmbedError):
    """A clock reading, a memory reading or a record that is not possible."""


class WorkerError(EdgeEmbedError):
    """A measuring process died, hung, or reported that it failed."""


class TargetError(EdgeEmbedError):
    """A target that is missing, refuses the connection, stops answering, or lacks something."""


def one_line(error: BaseException) -> str:
    """Returns the message of an error on one line, for a record or a row of a table."""
    lines = [line.strip() for line in str(error).splitlines()]
    return "; ".join(line for line in lines if line) or type(error).__name__
