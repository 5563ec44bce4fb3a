"""Errors of the benchmark, beside those of `edge_embed.errors`."""

from __future__ import annotations

from edge_embed.errors import EdgeEmbedError


class MeasurementError(EdgeEmbedError):
    """A clock, a memory reading or a record that cannot be true."""


class WorkerError(EdgeEmbedError):
    """A measuring process died, hung, or reported that it failed."""


class TargetError(EdgeEmbedError):
    """A target that is absent, refuses us, breaks off, or lacks what it needs."""
