"""What `edge_embed bench` does with its options."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from edge_embed._options import check_threads
from edge_embed._progress import progress_bar, step_bar
from edge_embed.cli._io import read_texts
from edge_embed.errors import InputError
from edge_embed_bench import compare as comparison
from edge_embed_bench import outputs, session
from edge_embed_bench.matrix import Axes, Model, check_lengths, choose, unique
from edge_embed_bench.record import FAILED, OURS, Record, Run, read, to_json
from edge_embed_bench.report_table import to_table
from edge_embed_bench.scores import read_scores
from edge_embed_bench.synthetic import build, require_known
from edge_embed_bench.synthetic import checkpoint as synthetic_checkpoint
from edge_embed_bench.target import Plan, Settings, Subject

CORPUS_BATCH = 32
"""Documents that an indexer hands over at a time."""


def measure(args: argparse.Namespace) -> int:
    """Measures the matrix or the corpus.

    Returns:
        1 if a file of ours could not be measured. A peer that fails is a row of the table and no more.
    """
    records: list[Record] = []
    try:
        _measure(args, _files(args), records)
    finally:
        if records:  # also at an interrupt
            sys.stdout.write(to_json(records) if args.json else to_table(records))
    return int(any(r.status == FAILED and r.engine.name == OURS for r in records))


def compare(args: argparse.Namespace) -> int:
    """Compares two reports, or measures two model files by turns and compares them.

    Returns:
        1 if something became worse, or could not be measured.
    """
    if args.files or args.synthetic:
        raise InputError("--compare names all there is to compare", fix="leave the other files out")
    old, new = args.compare
    reports = [path.suffix.lower() == ".json" for path in (old, new)]
    if any(reports) and not all(reports):
        raise InputError(
            "cannot compare a report with a model file",
            got=f"{old}, {new}", expected="two .json reports or two model files",
        )  # fmt: skip
    threshold = args.threshold / 100
    if all(reports):
        differences = comparison.compare(read(old), read(new), threshold=threshold)
    else:
        records: list[Record] = []
        _measure(args, [old, new], records)
        if not args.json:
            sys.stdout.write(to_table(records) + "\n")
        # Every cell gives a record of each, in their order.
        differences = comparison.compare(records[0::2], records[1::2], threshold=threshold, by_file=False)
    text = comparison.to_json if args.json else comparison.to_text
    sys.stdout.write(text(differences, threshold))
    return int(any(difference.failed for difference in differences))


def _measure(args: argparse.Namespace, files: Sequence[Path], records: list[Record]) -> None:
    """Appends records as they come, and keeps what is finished on disk."""
    outputs.check_outputs(args.output)
    quality = read_scores(args.quality) if args.quality else None
    models = [Model.open(path) for path in files]
    axes = _axes(args, models)
    targets = session.open_targets(axes, Settings(args.prepare_target, args.target_python, args.timeout))
    plan = Plan(_run(args), loads=args.loads, timeout=args.timeout)
    subjects = [_ours(model, bool(args.peers)) for model in models]
    if args.peers:
        subjects += _peers(args, models, axes, plan)
    work = (
        session.index(
            targets,
            axes,
            subjects,
            plan,
            args.corpus,
            documents(args.corpus, args.field, args.titles_field, args.limit),
        )
        if args.corpus
        else session.measure(targets, axes, subjects, plan)
    )
    with progress_bar(len(list(axes.cells())) * len(subjects), "measuring", unit="cell") as advance:
        for record in work:
            records.append(record)
            outputs.write(args.output, records, quality)
            advance(1)


def _ours(model: Model, checked: bool) -> Subject:
    """Returns a file as a subject; beside peers it must come as near to the source as its own gate asked."""
    least = model.manifest.parity.thresholds.get("cosine_min", 0.0) if checked else 0.0
    return Subject(model, least_cosine=least)


def _peers(args: argparse.Namespace, models: Sequence[Model], axes: Axes, plan: Plan) -> list[Subject]:
    """Returns the peers of the first file, and fills in the vectors that everyone must reproduce."""
    from edge_embed_bench import peers  # noqa: PLC0415 - few runs have them

    choose("peer", args.peers, peers.PEERS)
    checkpoint = args.checkpoint
    if checkpoint is None and len(args.synthetic) == 1 and not args.files:
        checkpoint = synthetic_checkpoint(args.synthetic[0])
    if checkpoint is None:
        raise InputError(
            "peers need the checkpoint that the file was made from", fix="name it with --checkpoint"
        )
    if len({model.manifest.source.sha256 for model in models}) > 1:
        raise InputError(
            "the files come from different weights", fix="measure them apart, each with its peers"
        )
    threads = max(axes.threads)
    lead = models[0]
    subjects = peers.subjects(args.peers, lead, checkpoint, threads, plan.timeout)
    vectors = peers.reference_vectors(
        lead, checkpoint, [n for n in axes.lengths if n], batch=max(axes.batches), seed=args.seed,
        threads=threads, timeout=plan.timeout,
    )  # fmt: skip
    for model in models:
        plan.reference.update({(model.facts.sha256, length): rows for (_, length), rows in vectors.items()})
    return subjects


def _files(args: argparse.Namespace) -> list[Path]:
    if args.recipe and not args.synthetic:
        raise InputError("--recipe chooses among synthetic models", fix="name one with --synthetic")
    files = list(args.files)
    if args.synthetic:
        require_known(args.synthetic)
        with step_bar("building the synthetic model") as progress:
            recipes = args.recipe or [None]
            files += [build(n, recipe, progress=progress) for n in args.synthetic for recipe in recipes]
    if not files:
        raise InputError("nothing to measure", fix="name a model file, or a shape with --synthetic")
    return unique(files)


def _axes(args: argparse.Namespace, models: Sequence[Model]) -> Axes:
    if args.corpus and args.lengths:
        raise InputError("a corpus has lengths of its own", fix="leave --lengths or --corpus out")
    threads = [check_threads(n) for n in args.threads] if args.threads else [check_threads(None)]
    return Axes(
        targets=unique(args.targets),
        accelerators=unique(args.accelerators),
        lengths=[0] if args.corpus else check_lengths(models, args.lengths),
        threads=unique(threads),
        batches=unique(args.batch or [CORPUS_BATCH if args.corpus else 1]),
    )


def _run(args: argparse.Namespace) -> Run:
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    words = shlex.join(["edge_embed", *sys.argv[1:]])
    return Run(words, started, args.warmup, args.repetitions, args.seed, [])


def documents(path: Path, field: str | None, titles_field: str | None, limit: int | None) -> list[str]:
    """Returns a corpus's first documents, each with its title ahead of it."""
    read = read_texts(str(path), field, titles_field)
    titles = read.titles or [None] * len(read.texts)
    texts = [
        f"{title} {text}".strip() if title else text for title, text in zip(titles, read.texts, strict=True)
    ]
    return texts[:limit]
