"""Plots of records, as PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from edge_embed.errors import MissingExtraError
from edge_embed_bench.record import OK, OURS, Record

DPI = 110

Series = dict[str, list[tuple[float, float]]]


def latency(records: Sequence[Record]) -> Series:
    """Returns median milliseconds against tokens, by subject."""
    return _series(records, lambda r: r.latency and r.latency.median_s * 1e3)


def memory(records: Sequence[Record]) -> Series:
    """Returns peak megabytes against tokens, by subject."""
    return _series(records, lambda r: r.memory and r.memory.peak_bytes / 1e6)


def size_and_quality(records: Sequence[Record], quality: Mapping[str, float]) -> Series:
    """Returns a point per model file: its megabytes and its score."""
    ours = [r for r in records if r.status == OK and r.storage and r.engine.name == OURS]
    return {
        r.label: [(r.storage.file_bytes / 1e6, quality[r.model.file])]
        for r in ours
        if r.storage and r.model.file in quality
    }


def draw(records: Sequence[Record], quality: Mapping[str, float] | None = None) -> bytes:
    """Returns one PNG with every plot that the records have points for.

    Args:
        records: What was measured.
        quality: Scores by the model file's name.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - half a second that only plots pay
    except ImportError as error:
        raise MissingExtraError("matplotlib", extra="bench", purpose="a report with plots") from error
    plots = [
        ("median latency", "tokens", "ms", latency(records), True),
        ("peak memory", "tokens", "MB", memory(records), False),
        ("size and quality", "file, MB", "score", size_and_quality(records, quality or {}), False),
    ]
    drawn = [plot for plot in plots if plot[3]] or plots[:1]
    figure: Any = Figure(figsize=(6.4 * len(drawn), 4.4), dpi=DPI, layout="constrained")
    for place, (title, x, y, series, logarithmic) in enumerate(drawn):
        axes = figure.add_subplot(1, len(drawn), place + 1)
        for label, points in sorted(series.items()):
            axes.plot(*zip(*sorted(points), strict=True), marker="o", label=label)
        axes.set(title=title, xlabel=x, ylabel=y)
        if x == "tokens":
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        if logarithmic:
            axes.set_yscale("log")
            for formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
                formatter(lambda value, _: f"{value:g}")
        else:
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        if series:
            axes.legend(fontsize="small")
    if any(r.model.synthetic for r in records):
        figure.supxlabel("synthetic: random weights", fontsize="small")
    sink = io.BytesIO()
    figure.savefig(sink, format="png")
    return sink.getvalue()


def _series(records: Sequence[Record], value: Any) -> Series:
    """Collects points by subject; threads and batch are in the name where they vary."""
    series: Series = {}
    many_threads = len({r.cell.threads for r in records}) > 1
    many_batches = len({r.cell.batch for r in records}) > 1
    for record in records:
        figure = value(record)
        if record.status == OK and record.cell.length and figure:
            label = record.label
            label += f", {record.cell.threads} threads" if many_threads else ""
            label += f", batch {record.cell.batch}" if many_batches else ""
            series.setdefault(label, []).append((record.cell.length, figure))
    return series
