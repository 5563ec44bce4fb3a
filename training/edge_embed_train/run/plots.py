"""A plot of a run's metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def plot_metrics(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws the loss and the scores on development sets over the steps of all stages.

    Args:
        records: The lines of metrics.jsonl.
        path: Where to write.
    """
    from matplotlib.figure import Figure  # a second

    figure = Figure(figsize=(9, 6), layout="constrained")
    loss, dev = figure.subplots(2, 1)
    start = 0
    for stage in dict.fromkeys(record["stage"] for record in records):
        mine = [record for record in records if record["stage"] == stage]
        steps = [(start + r["step"], r) for r in mine if "step" in r]
        points = [(step, r["loss"]) for step, r in steps if "loss" in r]
        if points:
            loss.plot(*zip(*points, strict=True), label=stage)
        end = start + max((r.get("step", r.get("steps", 0)) for r in mine), default=0)
        scored = [(step, r["scores"]) for step, r in steps if "scores" in r]
        scored += [(end, r["scores"]) for r in mine if r.get("event") == "finished"]
        for name in dict.fromkeys(name for _, scores in scored for name in scores if name != "mean"):
            values = [(step, scores[name]) for step, scores in scored if name in scores]
            dev.plot(*zip(*values, strict=True), marker="o", markersize=3, label=f"{stage}: {name}")
        start = end
    loss.set_ylabel("loss")
    dev.set_ylabel("score")
    dev.set_xlabel("step")
    for axis in (loss, dev):
        if axis.lines:
            axis.legend(fontsize=7)
    figure.savefig(path, dpi=110)
