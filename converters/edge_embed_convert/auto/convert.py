"""Auto: finds, by measuring, the smallest file of a given quality or the best file of a given size.

A simulation stores each part of the model in each possible way, one part at a time. A knapsack solver
combines the parts. The few mixtures that matter are written to files, run by the real runtime and compared
with the source, on texts that nothing was fitted to. Fixed recipes are measured too, and win if they are
better.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from typing_extensions import Unpack

from edge_embed.engine.cache_directory import default_directory
from edge_embed.progress import Step, Ticker
from edge_embed_convert.auto.budget import Budget, Search
from edge_embed_convert.auto.journal import Journal
from edge_embed_convert.buckets import buckets_for
from edge_embed_convert.pipeline import Conversion, target_path, workspace
from edge_embed_convert.recipes.calibrate.texts import Calibration
from edge_embed_convert.recipes.grammar import AUTO
from edge_embed_convert.source.checkpoint import CheckpointOptions, load

REVISION = 2
"""Part of a journal's name; raised when figures come out otherwise."""


def convert_auto(
    source: str | Path,
    output: str | Path | None = None,
    *,
    budget: Budget,
    calibration: str | Path | None = None,
    buckets: Sequence[int] | None = None,
    name: str | None = None,
    num_threads: int | None = None,
    journals: Path | None = None,
    progress: Step = lambda step, done, total: None,
    **options: Unpack[CheckpointOptions],
) -> Search:
    """Searches a recipe for a budget and writes its file.

    Args:
        source: As for `pipeline.convert`, and so `output`, `buckets`, `name` and `num_threads`.
        output: The file to write, or a directory to write `NAME.auto.tflite` into.
        budget: What the file must keep to.
        calibration: Text file, one text per line; by default the built-in texts.
        buckets: Input lengths.
        name: What the manifest calls the model.
        num_threads: Threads for the runtime while measuring.
        journals: Where journals are kept; by default below the user's cache directory.
        progress: Called as each step begins.
        **options: What the checkpoint leaves open.

    Raises:
        BudgetError: If no file fits the budget; with the nearest that was reached.
        InputError: If the calibration texts cannot be used.
        ConversionError: As `pipeline.convert`.
    """
    texts = Calibration.read(calibration)
    ticker = Ticker(progress, 1)
    ticker("reading the checkpoint")
    checkpoint = load(source, **options)
    lengths = buckets_for(checkpoint.max_tokens, buckets)
    label = name or checkpoint.id.rsplit("/", 1)[-1]
    target = target_path(output, f"{label}.{AUTO}.tflite")
    # Everything above reads configurations only; from here on PyTorch and the converter are needed.
    from edge_embed_convert.auto.searcher import Searcher
    from edge_embed_convert.job import STEPS, Job

    ticker.expect(len(STEPS))
    with workspace(target) as scratch:
        job = Job(
            checkpoint, lengths, label, Path(scratch), ticker, calibration=texts, num_threads=num_threads
        )
        job.load()
        job.rewrite()
        job.ask_source(measuring=True)
        job.export()
        cache = default_directory()
        facts = {
            "revision": REVISION,
            "source": job.writer.blank.source.sha256,
            "texts": texts.origin,
            "config": checkpoint.config,
            "buckets": lengths,
            "tools": job.writer.blank.tools,
            "options": {key: str(value) for key, value in sorted(options.items())},
        }
        journal = Journal(journals or (None if cache is None else cache / "auto"), facts)
        searcher = Searcher(job, journal, budget, ticker)
        winner, recipe = searcher.run()
        graph = job.quantize(recipe, searcher.moments)
        manifest = job.verify(graph, recipe)
        job.save(graph, manifest, target)
    return Search(
        Conversion(target, manifest, (*checkpoint.notes, job.tokenizer.note)),
        budget,
        winner,
        tuple(searcher.trials),
        searcher.losses,
        f"{len(job.measured)} texts of {texts.origin.split()[0]}",
        journal.reused,
    )
