"""The model card: what the model was trained on, under which licences, and what it scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edge_embed_train.recipe import Recipe, TrainStage


def write_card(directory: Path, recipe: Recipe, scores: Mapping[str, Mapping[str, float]]) -> None:
    """Writes `README.md` into a checkpoint.

    Args:
        directory: The checkpoint.
        recipe: How it was made.
        scores: On the development sets, by stage.
    """
    head = ["---", *([f"license: {recipe.licence}"] if recipe.licence else [])]
    head += ["library_name: sentence-transformers", "pipeline_tag: sentence-similarity"]
    head += ["tags:", "- sentence-transformers", "- edge-embed", "---"]
    used = dict.fromkeys(name for stage in recipe.stages for name in stage.data)
    lines = [*head, "", f"# {recipe.name}", ""]
    start = recipe.model or f"a student of {Path(recipe.teacher).name}"
    lines.append(f"Made by `edge_embed train` from {Path(start).name if recipe.model else start}.")
    if recipe.teacher:
        lines.append(f"Teacher: {Path(recipe.teacher).name}.")
    lines += ["", "## Stages", "", "| stage | kind | steps | batch | learning rate | weights stored as |"]
    lines.append("|---|---|---|---|---|---|")
    for stage in recipe.stages:
        if isinstance(stage, TrainStage):
            stored = stage.quantize or "float32"
            facts = f"{stage.steps} | {stage.batch_size} | {stage.learning_rate:g} | {stored}"
            lines.append(f"| {stage.name} | {stage.kind} | {facts} |")
        else:
            lines.append(f"| {stage.name} | {stage.kind} | | | | |")
    lines += ["", "## Training data", "", "| data | licence | attribution |", "|---|---|---|"]
    for name in used:
        source = recipe.data[name].source
        lines.append(f"| {name} | {source.licence} | {source.attribution or source.hub or ''} |")
    if scores:
        sets = list(dict.fromkeys(name for each in scores.values() for name in each))
        lines += ["", "## Development sets", ""]
        lines.append("Spearman correlation or nDCG at 10, times 100. These sets chose between checkpoints.")
        lines += ["", f"| stage | {' | '.join(sets)} |", "|---" * (1 + len(sets)) + "|"]
        for name, each in scores.items():
            cells = (f"{100 * each[s]:.2f}" if s in each else "" for s in sets)
            lines.append(f"| {name} | {' | '.join(cells)} |")
    (directory / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
