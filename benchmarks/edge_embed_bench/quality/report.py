"""A report as text, JSON, Markdown, or a plot."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence

from edge_embed.report_files import PLOTS
from edge_embed_bench.quality.evaluate import Report, Score
from edge_embed_convert.plots import new_figure, plot_bytes

HEADER = (
    "model",
    "dim",
    "score",
    "95 % interval",
    "loss",
    "its interval",
    "top-10",
    "cosine",
    "lowest",
    "MB",
    "ms/text",
)

LEGEND = (
    "Scores and losses x100. loss: the fp32 source's score at its full dimension less this one, with the "
    "interval of that difference over the same bootstrap draws. top-10: share of the ten nearest neighbours "
    "in common with the source at its full dimension. cosine: of each vector with the source's, mean and "
    "lowest. ms/text: mean time to embed a text of the set, tokenization included; a text is timed where a "
    "run meets it first."
)

_NONE = "-"


def to_json(report: Report) -> str:
    """Returns the report as JSON text, scores 0 to 1."""
    return json.dumps(dataclasses.asdict(report), indent=1, ensure_ascii=False) + "\n"


def to_text(report: Report) -> str:
    """Returns the report as plain-text tables, one per set."""
    blocks = []
    for name, kind in report.data.items():
        scores = [score for score in report.scores if score.data == name]
        rows = [HEADER, *(_cells(report, score) for score in scores)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
        lines = [f"{name} ({kind}, {scores[0].metric})"]
        lines += [
            "  ".join(
                [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            )
            for row in rows
        ]
        blocks.append("\n".join(line.rstrip() for line in lines))
    blocks += [f"note: {note}" for note in report.notes]
    return "\n\n".join(blocks)


def to_markdown(report: Report) -> str:
    """Returns the report as Markdown: first all sets in one table, then each set in full."""
    parts = ["# Quality", "", LEGEND, ""]
    if report.command:
        parts += [f"Command: `{report.command}`", ""]
    versions = ", ".join(f"{tool} {version}" for tool, version in report.versions.items())
    parts += [f"Machine: {report.machine}. Versions: {versions}. Bootstrap draws: {report.resamples}.", ""]
    parts += [f"Note: {note}." for note in report.notes] + [""] * bool(report.notes)
    names = list(report.data)
    metric = {score.data: score.metric for score in report.scores}
    head = ["model", "dim", "MB", *(f"{name} {metric[name]}" for name in names)]
    parts += ["## All sets", "", *_markdown(head, _summary(report)), ""]
    for name, kind in report.data.items():
        scores = [score for score in report.scores if score.data == name]
        others = [key for key in scores[0].metrics if key != scores[0].metric]
        rows = [[*_cells(report, s), *(f"{100 * s.metrics[key]:.2f}" for key in others)] for s in scores]
        parts += [f"## {name} ({kind}, {scores[0].metric})", "", *_markdown([*HEADER, *others], rows), ""]
    return "\n".join(parts)


def to_plot(report: Report, suffix: str) -> bytes:
    """Returns a plot of score against size, one panel per set, with the bootstrap intervals.

    Args:
        report: What to draw.
        suffix: .png, .svg or .pdf.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    names, sizes = list(report.data), {facts.label: facts.bytes / 1e6 for facts in report.models}
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(5 * columns, 3.6 * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    dims = sorted({score.dimension for score in report.scores}, reverse=True)
    for place, name in enumerate(names):
        panel = panels[place // columns][place % columns]
        for dimension in dims:
            scores = [s for s in report.scores if s.data == name and s.dimension == dimension]
            if not scores:
                continue
            x, y = [sizes[s.model] for s in scores], [100 * s.value for s in scores]
            below = [max(0.0, 100 * (s.value - s.low)) for s in scores]
            above = [max(0.0, 100 * (s.high - s.value)) for s in scores]
            panel.errorbar(x, y, yerr=[below, above], fmt="o", capsize=3, label=f"{dimension} dimensions")
            for s in scores if dimension == dims[0] else []:
                panel.annotate(s.model, (sizes[s.model], 100 * s.value), fontsize=6, rotation=20)
        panel.set(title=f"{name}: {_metric(report, name)} x100", xlabel="size, MB", xscale="log")
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter("{x:g}")
        panel.tick_params(axis="x", which="both", labelsize=7)
        panel.legend(fontsize=7)
    for place in range(len(names), rows * columns):
        panels[place // columns][place % columns].set_axis_off()
    return plot_bytes(figure, suffix)


def _metric(report: Report, name: str) -> str:
    return next(score.metric for score in report.scores if score.data == name)


WRITERS: dict[str, Callable[[Report], bytes]] = {
    ".json": lambda report: to_json(report).encode(),
    ".md": lambda report: to_markdown(report).encode(),
    ".txt": lambda report: (to_text(report) + "\n").encode(),
    **{suffix: lambda report, s=suffix: to_plot(report, s) for suffix in PLOTS},  # type: ignore[misc]
}
"""What is written, by the ending of the file."""


def _cells(report: Report, score: Score) -> tuple[str, ...]:
    size = next(facts.bytes for facts in report.models if facts.label == score.model)
    source = score.model == report.baseline and score.loss == 0
    return (
        score.model,
        str(score.dimension),
        f"{100 * score.value:.2f}",
        f"{100 * score.low:.2f} to {100 * score.high:.2f}",
        _NONE if source else _figure(score.loss, "{:+.2f}", 100),
        _NONE
        if source or score.loss_low is None or score.loss_high is None
        else f"{100 * score.loss_low:+.2f} to {100 * score.loss_high:+.2f}",
        _figure(score.agreement, "{:.3f}"),
        _figure(score.cosine_mean, "{:.5f}"),
        _figure(score.cosine_min, "{:.4f}"),
        f"{size / 1e6:.1f}",
        _figure(score.ms_per_text, "{:.1f}"),
    )


def _summary(report: Report) -> list[list[str]]:
    rows: dict[tuple[str, int], dict[str, Score]] = {}
    for score in report.scores:
        rows.setdefault((score.model, score.dimension), {})[score.data] = score
    sizes = {facts.label: facts.bytes for facts in report.models}
    table = []
    for (model, dimension), row in rows.items():
        cells = []
        for name in report.data:
            score = row[name]
            loss = f" ({-100 * score.loss:+.2f})" if score.loss else ""
            cells.append(f"{100 * score.value:.2f}{loss}")
        table.append([model, str(dimension), f"{sizes[model] / 1e6:.1f}", *cells])
    return table


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [list(head), ["---", *["---:"] * (len(head) - 1)], *rows]
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines]


def _figure(value: float | None, form: str, factor: float = 1) -> str:
    return _NONE if value is None else form.format(factor * value)
