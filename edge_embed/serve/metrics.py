"""Counters and histograms in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

import bisect
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency histograms."""


class Metrics:
    """What a server has done. Thread-safe.

    Args:
        gauges: Values that are read when they are shown: name to description and function.
    """

    def __init__(self, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        self._gauges = gauges
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, int], int] = defaultdict(int)
        self._texts = self._tokens = self._truncated = self._abandoned = 0
        self._request_seconds: dict[str, _Histogram] = defaultdict(_Histogram)
        self._run_seconds: dict[int, _Histogram] = defaultdict(_Histogram)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Counts an answered request."""
        with self._lock:
            self._requests[path, status] += 1
            self._request_seconds[path].add(seconds)

    def texts(self, texts: int, tokens: int, truncated: int) -> None:
        """Counts texts that were embedded, their tokens, and how many of them were cut."""
        with self._lock:
            self._texts += texts
            self._tokens += tokens
            self._truncated += truncated

    def abandoned(self) -> None:
        """Counts a request whose client left before the answer."""
        with self._lock:
            self._abandoned += 1

    def run(self, bucket: int, seconds: float) -> None:
        """Counts one run of the model."""
        with self._lock:
            self._run_seconds[bucket].add(seconds)

    def render(self) -> str:
        """Returns everything in Prometheus' text format."""
        lines: list[str] = []

        def head(name: str, kind: str, description: str) -> str:
            lines.extend([f"# HELP {name} {description}", f"# TYPE {name} {kind}"])
            return name

        with self._lock:
            name = head("edge_embed_requests_total", "counter", "Answered requests by path and status.")
            for (path, status), count in sorted(self._requests.items()):
                lines.append(f'{name}{{path="{path}",status="{status}"}} {count}')
            for name, value, description in (
                ("edge_embed_texts_total", self._texts, "Embedded texts."),
                ("edge_embed_tokens_total", self._tokens, "Embedded tokens."),
                (
                    "edge_embed_truncated_texts_total",
                    self._truncated,
                    "Texts that were cut to the model's maximum.",
                ),
                ("edge_embed_abandoned_requests_total", self._abandoned, "Requests whose client left early."),
            ):
                lines.append(f"{head(name, 'counter', description)} {value}")
            name = head(
                "edge_embed_request_duration_seconds", "histogram", "Time from request to answer by path."
            )
            for path, histogram in sorted(self._request_seconds.items()):
                lines += histogram.render(name, f'path="{path}"')
            name = head(
                "edge_embed_run_duration_seconds", "histogram", "Time of one run of the model by bucket."
            )
            for bucket, histogram in sorted(self._run_seconds.items()):
                lines += histogram.render(name, f'bucket="{bucket}"')
        for name, (description, read) in self._gauges.items():
            lines.append(f"{head(name, 'gauge', description)} {read():.12g}")
        return "\n".join(lines) + "\n"


class _Histogram:
    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect.bisect_left(SECONDS, seconds)] += 1
        self.total += seconds

    def render(self, name: str, label: str) -> list[str]:
        lines, below = [], 0
        for bound, count in zip([*map(str, SECONDS), "+Inf"], self.counts, strict=True):
            below += count
            lines.append(f'{name}_bucket{{{label},le="{bound}"}} {below}')
        return [*lines, f"{name}_sum{{{label}}} {self.total:.9g}", f"{name}_count{{{label}}} {below}"]


def resident_bytes() -> float:
    """Returns the process's resident memory in bytes; its peak where the system tells no more (macOS)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
