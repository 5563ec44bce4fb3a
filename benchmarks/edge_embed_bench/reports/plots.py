"""Plots of records: latency and memory against length, documents per second, size against quality."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_embed.errors import MissingExtraError
from edge_embed_bench.records.machine import describe
from edge_embed_bench.records.record import OK, OURS, Record
from edge_embed_bench.reports.columns import number
from edge_embed_bench.reports.labels import labels

DPI = 140

_OURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_PEERS = ("#7f7f7f", "#b08d57", "#6a51a3", "#8c564b", "#5f9ea0", "#bcbd22", "#e377c2", "#a6761d", "#636363")
_MARKERS = "osD^vP*X<>"
_MOST_WHISKERS = 4
_FEW_BARS = 6
_PANEL_INCHES, _BAR_INCHES, _TITLE_INCHES = 4.2, 0.3, 1.4


@dataclass(frozen=True)
class Point:
    """A point of a plot. `high` is the end of the whisker above it, None without one."""

    x: float
    y: float
    high: float | None = None


Series = dict[str, list[Point]]


def latency(records: Sequence[Record]) -> Series:
    """Returns the median in milliseconds and the 95th percentile by tokens, for each subject."""

    def point(record: Record) -> Point | None:
        found = record.latency
        return Point(record.cell.length, found.median_s * 1e3, found.p95_s * 1e3) if found else None

    return _series(records, point)


def memory(records: Sequence[Record]) -> Series:
    """Returns peak memory in megabytes by tokens, for each subject."""
    return _series(records, lambda r: Point(r.cell.length, r.memory.peak_bytes / 1e6) if r.memory else None)


def throughput(records: Sequence[Record]) -> Series:
    """Returns documents per second of a corpus, for each subject."""
    return _series(records, lambda r: Point(0, r.throughput.documents_per_s) if r.throughput else None)


def size_and_quality(records: Sequence[Record], quality: Mapping[str, float]) -> Series:
    """Returns a point per model file: its megabytes and its score."""
    name = labels([r for r in records if r.engine.name == OURS])
    ours = [r for r in records if r.status == OK and r.storage and r.engine.name == OURS]
    return {
        name(r): [Point(r.storage.file_bytes / 1e6, quality[r.model.file])]
        for r in ours
        if r.storage and r.model.file in quality
    }


def draw(records: Sequence[Record], quality: Mapping[str, float] | None = None, form: str = "png") -> bytes:
    """Returns one picture with every plot that the records have points for.

    Args:
        records: The records.
        quality: Scores by the model file's name.
        form: A format of matplotlib: png, svg, pdf.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    try:
        import matplotlib  # takes half a second, and only plots need it
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", extra="bench", purpose="a report with plots") from error
    styles = _styles(records)
    panels = [
        panel
        for panel in (
            _against_length("Median latency", "ms", latency(records), styles, log=True),
            _against_length("Peak memory of the process", "MB", memory(records), styles, log=False),
            _bars("Corpus throughput", "documents/s", throughput(records), styles, best=max),
            _scatter("File size and quality", size_and_quality(records, quality or {}), styles),
        )
        if panel is not None
    ]
    with matplotlib.rc_context({"font.size": 9, "axes.titlesize": 10, "svg.hashsalt": "edge_embed"}):
        rows = max((panel.bars for panel in panels), default=0)
        height = max(_PANEL_INCHES, _TITLE_INCHES + _BAR_INCHES * rows)
        figure: Any = Figure(figsize=(5.4 * max(len(panels), 1) + 2.4, height), dpi=DPI, layout="constrained")
        for place, panel in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), place + 1)
            panel.draw(axes)
            axes.spines[["top", "right"]].set_visible(False)
        if not panels:
            figure.text(0.5, 0.5, "no record has a figure to plot", ha="center")
        _legend(figure, [panel for panel in panels if panel.legend])
        figure.supxlabel(_caption(records), fontsize=8, color="#46515f")
        sink = io.BytesIO()
        figure.savefig(sink, format=form, metadata={"Date": None} if form == "svg" else None)
    return sink.getvalue()


@dataclass(frozen=True)
class _Panel:
    """One plot.

    Attributes:
        draw: Draws it.
        legend: Its subjects from top to bottom, if they are lines and not named on an axis.
        bars: The number of rows of bars.
    """

    draw: Callable[[Any], None]
    legend: tuple[str, ...] = ()
    bars: int = 0


def _against_length(
    title: str, unit: str, series: Series, styles: Mapping[str, dict[str, Any]], *, log: bool
) -> _Panel | None:
    """Returns lines over lengths, or bars where there is one length."""
    lengths = sorted({point.x for points in series.values() for point in points})
    if len(lengths) < 2:
        return _bars(f"{title}, {lengths[0]:g} tokens", unit, series, styles) if lengths else None

    # With many subjects the whiskers overlap.
    whiskers = len(series) <= _MOST_WHISKERS and any(p.high for points in series.values() for p in points)

    def plot(axes: Any) -> None:
        for label, points in series.items():
            ordered = sorted(points, key=lambda p: p.x)
            x, y = [p.x for p in ordered], [p.y for p in ordered]
            axes.plot(x, y, label=label, **styles[label])
            if whiskers:
                high = [p.high or p.y for p in ordered]
                axes.vlines(x, y, high, color=styles[label]["color"], alpha=0.4, linewidth=1.2)
        axes.set(title=f"{title}, whisker to the 95th percentile" if whiskers else title)
        axes.set(xlabel="tokens per text", ylabel=f"{unit}, log scale" if log else unit)
        axes.set_xscale("log", base=2)
        axes.set_xticks(lengths, [f"{length:g}" for length in lengths])
        axes.set_xticks([], minor=True)
        if log:
            _set_log_ticks(axes)
        else:
            axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
        axes.grid(alpha=0.25)

    # In the order of the right ends of the lines.
    names = sorted(series, key=lambda label: max((p.x, p.y) for p in series[label]), reverse=True)
    return _Panel(plot, legend=tuple(names))


def _bars(
    title: str,
    unit: str,
    series: Series,
    styles: Mapping[str, dict[str, Any]],
    best: Callable[..., Any] = min,
) -> _Panel | None:
    """Returns a bar per subject, the best on top: the highest if `best` is max, the lowest if it is min."""
    if not series:
        return None
    points = {label: found[0] for label, found in series.items()}

    def plot(axes: Any) -> None:
        names = sorted(points, key=lambda label: points[label].y, reverse=best is min)
        values = [points[name].y for name in names]
        drawn = axes.barh(names, values, color=[styles[name]["color"] for name in names], height=0.62)
        axes.bar_label(drawn, [number(value) for value in values], padding=4)
        axes.set(title=title, xlabel=unit)
        axes.set_xlim(0, max(values) * 1.18)
        spare = max(0, _FEW_BARS - len(names)) / 2  # two bars should not fill the plot
        axes.set_ylim(-0.6 - spare, len(names) - 0.4 + spare)
        axes.grid(axis="x", alpha=0.25)
        axes.set_axisbelow(True)

    return _Panel(plot, bars=len(points))


def _scatter(title: str, series: Series, styles: Mapping[str, dict[str, Any]]) -> _Panel | None:
    if not series:
        return None

    def plot(axes: Any) -> None:
        for label, (point,) in series.items():
            axes.plot(point.x, point.y, **styles[label] | {"markersize": 8})
            axes.annotate(label, (point.x, point.y), xytext=(0, 8), textcoords="offset points", ha="center")
        axes.set(title=title, xlabel="file, MB", ylabel="mean score (axis does not begin at zero)")
        axes.set_xlim(0, max(p.x for points in series.values() for p in points) * 1.25)
        axes.margins(y=0.25)
        axes.grid(alpha=0.25)

    return _Panel(plot)


def _set_log_ticks(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    # Over a wide range few ticks are enough; over a narrow one only fine steps give several.
    steps = (1, 2, 3, 5, 7) if high / low < 30 else (1, 2, 5) if high / low < 3000 else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _legend(figure: Any, panels: Sequence[_Panel]) -> None:
    """Adds one legend for all plots, in the order of the first one."""
    if not panels:
        return
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    names = [name for name in panels[0].legend if name in handles]
    names += [name for name in handles if name not in names]
    figure.legend([handles[n] for n in names], names, loc="outside right upper", frameon=False, fontsize=8)


def _styles(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Returns the style of each subject, equal in every plot. Ours have strong colours and are in front."""
    name, styles = labels(records), {}
    count = {True: 0, False: 0}
    for record in records:
        label, own = name(record), record.engine.name == OURS
        if label in styles:
            continue
        place, colours = count[own], _OURS if own else _PEERS
        count[own] += 1
        styles[label] = {
            "color": colours[place % len(colours)],
            "marker": _MARKERS[place % len(_MARKERS)],
            "linestyle": "-" if place < len(colours) else "--",
            "linewidth": 2.2 if own else 1.2,
            "markersize": 5.5 if own else 4.5,
            "zorder": 3 if own else 2,
        }
    return styles


def _caption(records: Sequence[Record]) -> str:
    """Returns the caption: the machine, the values that all cells share, and what is synthetic."""
    lines = list(dict.fromkeys(describe(r.machine) for r in records))[:3]
    threads, batches = {r.cell.threads for r in records}, {r.cell.batch for r in records}
    facts = [f"threads: {n}" for n in threads if len(threads) == 1]
    facts += [f"batch: {n}" for n in batches if len(batches) == 1]
    facts += ["synthetic: random weights"] if any(r.model.synthetic for r in records) else []
    facts += ["emulated: not a device's figures"] if any(r.machine.emulator for r in records) else []
    return "\n".join([*lines, "; ".join(facts)])


def _series(records: Sequence[Record], point: Callable[[Record], Point | None]) -> Series:
    """Collects points by subject."""
    series: Series = {}
    name = labels(records)
    for record in records:
        found = point(record)
        if record.status == OK and found:
            series.setdefault(name(record), []).append(found)
    return series
