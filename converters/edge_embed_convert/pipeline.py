"""The pipeline: load, rewrite, export, quantize, verify, save. Nothing is saved that was not verified."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import Unpack

from edge_embed.errors import ConversionError
from edge_embed.model_file.manifest import Manifest
from edge_embed.progress import Step, Ticker
from edge_embed_convert.buckets import buckets_for
from edge_embed_convert.choices import choose_recipe
from edge_embed_convert.recipes.grammar import Recipe
from edge_embed_convert.source.checkpoint import CheckpointOptions, load


@dataclass(frozen=True)
class Conversion:
    """What a conversion made.

    Attributes:
        path: The model file.
        manifest: Its manifest, with the parity report.
        notes: Remarks on choices that were made, for instance of the tokenizer's form.
    """

    path: Path
    manifest: Manifest
    notes: tuple[str, ...]


def convert(
    source: str | Path,
    output: str | Path | None = None,
    *,
    recipe: str | None = None,
    calibration: str | Path | None = None,
    buckets: Sequence[int] | None = None,
    name: str | None = None,
    num_threads: int | None = None,
    force: bool = False,
    progress: Step = lambda step, done, total: None,
    **options: Unpack[CheckpointOptions],
) -> Conversion:
    """Turns a checkpoint into one verified model file.

    Args:
        source: A sentence-transformers or transformers directory, or a hub id.
        output: The file to write, or a directory to write `NAME.RECIPE.tflite` into; by default the
            working directory.
        recipe: A known recipe or a spelling of `recipes.grammar`; by default the one that the checkpoint was
            trained for, with quantization in the loop, else the family's.
        calibration: Text file for recipes that are fitted to texts, one text per line; by default the
            built-in ones.
        buckets: Input lengths; by default the powers of two from 16 up to the maximum.
        name: What the manifest calls the model; by default the checkpoint's own name.
        num_threads: Threads for the runtime while verifying.
        force: Saves a file that failed verification; its manifest says so.
        progress: Called as each step begins with its name, the steps done, and the steps in all.
        **options: What the checkpoint leaves open; see `checkpoint.CheckpointOptions`.

    Returns:
        The file and its manifest.

    Raises:
        CheckpointError: If the checkpoint is absent, incomplete or wrong.
        RecipeError: If the recipe is unknown or does not apply.
        ParityError: If the file does not agree with its source; nothing was written.
        ConversionError: If a weight is not stored as the recipe says, or the file cannot be written.
    """
    if recipe is not None:
        Recipe.parse(recipe)  # refused before all work
    ticker = Ticker(progress, 1)
    ticker("reading the checkpoint")
    checkpoint = load(source, **options)
    chosen = choose_recipe(checkpoint, recipe)
    lengths = buckets_for(checkpoint.max_tokens, buckets)
    label = name or checkpoint.id.rsplit("/", 1)[-1]
    target = target_path(output, f"{label}.{chosen.label}.tflite")
    # Everything above reads configurations only; from here on PyTorch and the converter are needed.
    from edge_embed_convert.job import STEPS, Job
    from edge_embed_convert.recipes.calibrate.texts import Calibration

    ticker.expect(len(STEPS))
    texts = Calibration.read(calibration) if chosen.calibrated or calibration is not None else None
    with workspace(target) as scratch:
        job = Job(
            checkpoint,
            lengths,
            label,
            Path(scratch),
            ticker,
            calibration=texts,
            num_threads=num_threads,
            force=force,
        )
        job.load()
        job.rewrite(chosen)
        job.ask_source()
        job.export(chosen)
        graph = job.quantize(chosen)
        manifest = job.verify(graph, chosen)
        job.save(graph, manifest, target)
    return Conversion(target, manifest, (*checkpoint.notes, job.tokenizer.note))


def target_path(output: str | Path | None, default_name: str) -> Path:
    """Returns the file to write, where a user may name a directory or nothing."""
    path = Path(output or ".").expanduser()
    return path / default_name if path.is_dir() else path


def workspace(target: Path) -> tempfile.TemporaryDirectory[str]:
    """Returns a scratch directory beside the output, so that the last step is a rename on one disk."""
    try:
        return tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise ConversionError(
            f"cannot write into {target.parent}",
            got=error.strerror or str(error),
            expected="an existing, writable directory",
            fix="create it, or choose another path with --output",
        ) from error
