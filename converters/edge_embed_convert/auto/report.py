"""Reports of a search: a table, JSON, Markdown, and a plot of size against agreement."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from edge_embed.report_files import PLOTS
from edge_embed_convert.auto.budget import FIXED, Search, Trial
from edge_embed_convert.plots import new_figure, plot_bytes
from edge_embed_convert.recipes.grammar import AUTO

HEADER = ("what", "MB", "cosine", "lowest", "top-10", "how", "recipe")


def summary(search: Search) -> dict[str, Any]:
    """Returns everything that a search found, as JSON values."""
    return {
        "budget": {key: value for key, value in asdict(search.budget).items() if value is not None},
        "winner": _record(search.winner),
        "tried": [_record(trial) for trial in _ordered(search)],
        "beaten_by": [trial.label for trial in search.beaten_by()],
        "loss_of_parts": search.parts,
        "texts": search.texts,
        "reused": search.reused,
    }


def to_text(search: Search) -> str:
    """Returns the table of what was tried, and what it says, for a terminal."""
    rows = [HEADER, *(_cells(search, trial) for trial in _ordered(search))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    lines = []
    for what, *figures, how, recipe in rows:
        numbers = (cell.rjust(width) for cell, width in zip(figures, widths[1:5], strict=True))
        lines.append("  ".join([what.ljust(widths[0]), *numbers, how.ljust(widths[5]), _short(recipe)]))
    return "\n".join([*lines, *verdict(search)])


def to_markdown(search: Search) -> str:
    """Returns the table of what was tried and the loss of each part as Markdown."""
    rows = [_cells(search, trial) for trial in _ordered(search)]
    lines = [f"# {search.conversion.manifest.name}: recipe for {search.budget}", "", *verdict(search), ""]
    lines += _table(HEADER, [(*row[:-1], f"`{row[-1]}`") for row in rows])
    schemes = sorted({scheme for losses in search.parts.values() for scheme in losses}, key=_fineness)
    lines += ["", "1 less the mean cosine where one part alone is stored so, everything else in float32:", ""]
    by_part = [
        (part, *(f"{losses[s]:.5f}" if s in losses else "" for s in schemes))
        for part, losses in search.parts.items()
    ]
    return "\n".join([*lines, *_table(("part", *schemes), by_part), ""])


def verdict(search: Search) -> list[str]:
    """Returns lines that say which recipe was best, and whether a fixed recipe is as good and smaller."""
    winner, beaten = search.winner, search.beaten_by()
    lines = [f"Measured on {search.texts} that nothing was fitted to."]
    if winner.label != AUTO:
        lines.append(f"The fixed recipe {winner.label} is better than what the search found; it was written.")
    elif beaten:
        lines.append(f"No larger and no worse: {', '.join(trial.label for trial in beaten)}.")
    else:
        lines.append("No fixed recipe is both as small and as close to the source.")
    return lines


def to_plot(search: Search, suffix: str) -> bytes:
    """Returns a plot of size against mean cosine and neighbour agreement.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure = new_figure(10, 4.2)
    panels: dict[str, Callable[[Trial], float]] = {
        "mean cosine": lambda trial: trial.score.cosine,
        "top-10 neighbours in common": lambda trial: trial.score.neighbours,
    }
    for axes, (title, value) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        front = sorted((t for t in search.trials if t.label == "front"), key=lambda t: t.size)
        axes.plot(
            [t.size / 1e6 for t in front], [value(t) for t in front], "-o", ms=3, label="auto, simulated"
        )
        found = [t for t in search.trials if t.label == AUTO]
        axes.plot([t.size / 1e6 for t in found], [value(t) for t in found], "*", ms=11, label="auto, files")
        fixed = [t for t in search.trials if t.label in FIXED]
        axes.plot([t.size / 1e6 for t in fixed], [value(t) for t in fixed], "s", ms=4, label="fixed, files")
        for trial in fixed:
            axes.annotate(trial.label, (trial.size / 1e6, value(trial)), fontsize=6, rotation=15)
        axes.set(title=title, xlabel="size of the file, MB")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="lower right")
    figure.suptitle(f"{search.conversion.manifest.name}: {search.budget}", fontsize="medium")
    return plot_bytes(figure, suffix)


WRITERS: dict[str, Callable[[Search], bytes]] = {
    ".json": lambda search: (json.dumps(summary(search), indent=1) + "\n").encode(),
    ".md": lambda search: to_markdown(search).encode(),
    **{suffix: lambda search, s=suffix: to_plot(search, s) for suffix in PLOTS},  # type: ignore[misc]
}
"""What is written, by the ending of the file."""


def _ordered(search: Search) -> list[Trial]:
    return sorted(search.trials, key=lambda trial: (-trial.size, trial.label, trial.recipe))


def _record(trial: Trial) -> dict[str, Any]:
    record = asdict(trial)
    score: dict[str, Any] = record.pop("score")
    return record | score


def _cells(search: Search, trial: Trial) -> tuple[str, ...]:
    score = trial.score
    return (
        trial.label + (" *" if trial == search.winner else ""),
        f"{trial.size / 1e6:.2f}",
        f"{score.cosine:.5f}",
        f"{score.lowest:.4f}",
        f"{score.neighbours:.3f}",
        "file" if trial.measured else "simulated",
        trial.recipe,
    )


def _short(recipe: str, most: int = 60) -> str:
    return recipe if len(recipe) <= most else recipe[: most - 1] + "…"


def _fineness(scheme: str) -> tuple[int, str]:
    return -int(scheme.partition(".")[0].partition("b")[0]), scheme


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    aligned = [":--", *["--:"] * (len(head) - 1)]
    return [f"| {' | '.join(row)} |" for row in (head, aligned, *rows)]
