"""The pipeline: load, rewrite, export, quantize, verify, save. Nothing is saved that was not verified."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from typing_extensions import Unpack

from edge_embed import Embedder
from edge_embed.errors import ConversionError
from edge_embed.model_file.manifest import Manifest, Parity
from edge_embed.progress import Step, Ticker
from edge_embed_convert import verify
from edge_embed_convert.graph.export import check_buckets, default_buckets
from edge_embed_convert.prepare import Prepared, prepare, refusal
from edge_embed_convert.recipes.calibrate.texts import Calibration
from edge_embed_convert.recipes.grammar import Recipe
from edge_embed_convert.source.checkpoint import CheckpointOptions, load

FIXED_STEPS = 8
"""Steps of a conversion that are there whatever the model: see the calls of `ticker` below."""


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
        recipe: A known recipe or a spelling of the grammar in `recipes`; by default the one that the
            checkpoint was trained for, with quantization in the loop, else the family's.
        calibration: Text file for recipes that are fitted to texts, one text per line; by default texts
            of our own.
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
        ConversionError: If the file cannot be written.
    """
    if recipe is not None:
        Recipe.parse(recipe)  # refused ahead of all work
    ticker = Ticker(progress, FIXED_STEPS)
    ticker("reading the checkpoint")
    checkpoint = load(source, **options)
    family, trained = checkpoint.family, checkpoint.trained_recipe
    # Training with quantization in the loop has put the weights where min-max rounding is best, so that
    # a known name stands for the plain recipe: no balance and no GPTQ.
    chosen = Recipe.parse(recipe or trained or family.default_recipe, {} if trained else family.recipes)
    lengths = (
        default_buckets(checkpoint.max_tokens)
        if buckets is None
        else check_buckets(buckets, checkpoint.max_tokens)
    )
    label = name or checkpoint.id.rsplit("/", 1)[-1]
    target = target_path(output, f"{label}.{chosen.label}.tflite")
    texts = Calibration.read(calibration) if chosen.calibrated or calibration is not None else None
    with workspace(target) as scratch:
        prepared = prepare(
            checkpoint,
            lengths,
            label,
            Path(scratch),
            ticker,
            recipe=chosen,
            calibration=texts,
            num_threads=num_threads,
            force=force,
        )
        graph = prepared.quantize(chosen, ticker)
        prepared.float_graph.unlink()
        return save(prepared, graph, chosen, target, ticker, force=force)


def save(
    prepared: Prepared,
    graph: bytes,
    recipe: Recipe,
    target: Path,
    ticker: Ticker,
    *,
    force: bool = False,
    thresholds: Mapping[str, float] | None = None,
) -> Conversion:
    """Puts a quantized graph through the gate and writes the model file.

    Args:
        prepared: What all files of the checkpoint share.
        graph: The flatbuffer.
        recipe: How it was quantized.
        target: Where to write.
        ticker: Told each step.
        force: Saves a file that fails; its manifest says so.
        thresholds: What the gate demands; by default the recipe's bounds.

    Raises:
        ParityError: If the file does not agree with its source; nothing was written.
        ConversionError: If the file cannot be written.
    """
    draft, unproved = prepared.draft(graph, recipe)
    demanded = thresholds or recipe.thresholds.as_dict()
    parity = verify.measure(draft, prepared.probes, demanded, prepared.num_threads, ticker)
    draft.unlink()
    if not parity.passed and not force:
        raise refusal(
            parity,
            f"{recipe.name} file",
            "choose a finer recipe (int8, fp32), or insist with --force, which the manifest then tells",
        )
    ticker("saving")
    manifest = replace(unproved, parity=_with_failures(parity, prepared.exact))
    finished = prepared.finished(graph, manifest)
    with Embedder(finished, weight_cache="memory", num_threads=prepared.num_threads):
        pass  # the file proves itself, as at every later load, ahead of taking its place
    _move(finished, target)
    return Conversion(target, manifest, (prepared.tokenizer.note,) if prepared.tokenizer.note else ())


def _with_failures(parity: Parity, exact: Parity) -> Parity:
    """Returns the file's report, failed if the graph ahead of quantization had failed already."""
    if exact.passed:
        return parity
    failures = [*parity.failures, *(f"float32 graph: {failure}" for failure in exact.failures)]
    return replace(parity, passed=False, failures=failures)


def target_path(output: str | Path | None, default_name: str) -> Path:
    """Returns the file to write, where a user may name a directory or nothing."""
    path = Path(output or ".").expanduser()
    return path / default_name if path.is_dir() else path


def _move(finished: Path, target: Path) -> None:
    try:
        os.replace(finished, target)
    except OSError as error:
        raise ConversionError(
            f"cannot write {target}",
            got=error.strerror or str(error),
            expected="a path for a file",
            fix="choose another place with --output",
        ) from error


def workspace(target: Path) -> tempfile.TemporaryDirectory[str]:
    """Returns a scratch directory beside the output, so that the last step is a rename on one disk."""
    try:
        return tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise ConversionError(
            f"cannot write into {target.parent}",
            got=error.strerror or str(error),
            expected="an existing, writable directory",
            fix="create it, or choose another place with --output",
        ) from error
