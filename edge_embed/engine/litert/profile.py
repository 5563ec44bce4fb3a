"""How long each kind of operator of a graph takes, by LiteRT's own profiler. Only to inspect a file."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any

from edge_embed.engine.litert.c_api import Graph, check_status
from edge_embed.engine.litert.calls import call_litert
from edge_embed.engine.litert.flatbuffer import keep_only, mapped
from edge_embed.engine.packed_weights import IN_MEMORY
from edge_embed.names import signature_name

_OPTIONS_OF_THE_RUNTIME = b"runtime_options_string"
_OUTSIDE, _DELEGATED = 2, 8
"""Kinds of events: an operator that the interpreter ran, and one that the delegate ran."""

_KEPT = 0.5
"""Share of the runs, the fastest, whose mean is a node's time: the others may have waited for a processor. A
median will not do, because the profiler counts whole microseconds."""


class _Event(ctypes.Structure):
    _fields_ = (
        ("tag", c_char_p),
        ("kind", c_uint32),
        ("start", c_uint64),
        ("microseconds", c_uint64),
        ("memory", c_uint64 * 6),
        ("node", c_int64),
        ("more", c_int64),
        ("source", c_uint32),
    )


@dataclass(frozen=True)
class Operator:
    """All operators of one kind in one run of a graph.

    Attributes:
        name: What XNNPACK calls its kernel, or LiteRT its operator where the delegate left it out.
        count: How many of them ran.
        seconds: What they took together.
    """

    name: str
    count: int
    seconds: float


@dataclass(frozen=True)
class Profile:
    """Where the time of one run goes.

    Attributes:
        operators: By kind, the slowest first.
        seconds: The fastest whole run, measured from outside without the profiler; on a busy machine most
            runs wait for a processor. It is more than the operators take: the profiler counts whole
            microseconds and rounds down, so a shorter node counts as nothing.
    """

    operators: list[Operator]
    seconds: float


class _ProfiledGraph(Graph):
    def profile(self, ids: Sequence[int], pad_id: int) -> list[tuple[str, float]]:
        """Runs a text; returns operator and microseconds of each node, in order."""
        c, profiler, count = self._c, c_void_p(), c_int()
        _declare(c)
        check_status("get the profiler", c.LiteRtCompiledModelGetProfiler(self._compiled, byref(profiler)))
        check_status("reset the profiler", c.LiteRtResetProfiler(profiler))
        check_status("start the profiler", c.LiteRtStartProfiler(profiler))
        self.run(ids, pad_id)
        check_status("stop the profiler", c.LiteRtStopProfiler(profiler))
        check_status("count events", c.LiteRtGetNumProfilerEvents(profiler, byref(count)))
        events = (_Event * count.value)()
        check_status("read events", c.LiteRtGetProfilerEvents(profiler, count, events))
        found = [event for event in events if event.kind in (_OUTSIDE, _DELEGATED)]
        return [(event.tag.decode(), float(event.microseconds)) for event in found]

    def _settings(self, num_threads: int, weight_cache: str) -> dict[bytes, str]:
        settings = super()._settings(num_threads, weight_cache)
        return {**settings, _OPTIONS_OF_THE_RUNTIME: "enable_profiling = true\n"}


def operators(
    path: str | os.PathLike[str], length: int, dimension: int, ids: Sequence[int], threads: int, runs: int
) -> Profile:
    """Runs one text in one bucket and returns what its operators and what the whole run take.

    Args:
        path: A model file.
        length: The bucket.
        dimension: The model's dimension.
        ids: Token ids, as many as the bucket takes.
        threads: Threads of the delegate.
        runs: How many runs are measured, after one that is not, with the profiler and without it by turns.

    Raises:
        ModelFileError: If there is no such bucket.
        RuntimeFailure: If LiteRT cannot compile, run or profile the graph.
    """
    data = mapped(path)
    keep_only(data, signature_name(length))

    def measure() -> list[tuple[list[tuple[str, float]], float]]:
        graph = _ProfiledGraph(data, length, dimension, threads, IN_MEMORY)
        try:
            graph.run(ids, 0)
            return [(graph.profile(ids, 0), _timed(graph, ids)) for _ in range(runs)]
        finally:
            graph.close()

    profiles, wholes = zip(*call_litert("LiteRT cannot profile the graph", measure), strict=True)
    found: dict[str, list[float]] = {}
    # The same nodes run in the same order each time.
    for node in zip(*profiles, strict=True):
        times = sorted(microseconds for _, microseconds in node)[: max(1, int(runs * _KEPT))]
        found.setdefault(node[0][0], []).append(1e-6 * sum(times) / len(times))
    every = [Operator(name, len(nodes), sum(nodes)) for name, nodes in found.items()]
    return Profile(sorted(every, key=lambda operator: -operator.seconds), min(wholes))


def _timed(graph: Graph, ids: Sequence[int]) -> float:
    start = time.perf_counter()
    graph.run(ids, 0)
    return time.perf_counter() - start


def _declare(c: Any) -> None:
    signatures: dict[str, tuple[Any, ...]] = {
        "LiteRtCompiledModelGetProfiler": (c_void_p, POINTER(c_void_p)),
        "LiteRtResetProfiler": (c_void_p,),
        "LiteRtStartProfiler": (c_void_p,),
        "LiteRtStopProfiler": (c_void_p,),
        "LiteRtGetNumProfilerEvents": (c_void_p, POINTER(c_int)),
        "LiteRtGetProfilerEvents": (c_void_p, c_int, POINTER(_Event)),
    }
    for name, arguments in signatures.items():
        function = getattr(c, name)
        function.argtypes, function.restype = arguments, c_int
