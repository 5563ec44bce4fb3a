"""The work of `edge_embed bench`."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from edge_embed.errors import InputError
from edge_embed.options import check_threads
from edge_embed.progress import progress_bar, step_bar
from edge_embed_bench.choices import choose, unique
from edge_embed_bench.names import PEERS, THRESHOLD
from edge_embed_bench.records import comparison, ratios
from edge_embed_bench.records.model import SYNTHETIC_MARK, Model
from edge_embed_bench.records.record import CORPUS, FAILED, LATENCY, OURS, Record, Run, read, to_json
from edge_embed_bench.reports import outputs as reports
from edge_embed_bench.reports.quality import read_scores
from edge_embed_bench.reports.table import to_table
from edge_embed_bench.run import session
from edge_embed_bench.run.corpus import documents
from edge_embed_bench.run.matrix import Axes, check_lengths
from edge_embed_bench.synthetic.models import build, require_known, require_recipe
from edge_embed_bench.synthetic.models import checkpoint as synthetic_checkpoint
from edge_embed_bench.targets.base import Plan, Settings, Subject

CORPUS_BATCH = 32
"""Documents of one call of an indexer."""

CHECK_LENGTH = 64
"""Tokens of the text that checks, before a corpus, whether an engine computes this model."""

_MATRIX = ("lengths", "threads", "batch", "accelerators", "targets", "peers", "corpus")


def run(args: argparse.Namespace) -> int:
    """Measures, shows reports again, or compares.

    Returns:
        1 if a file of this project could not be measured, or something regressed. A failed peer does not
        count.
    """
    _refuse_idle_options(args)
    with session.ending_in_order():
        if args.operators:
            from edge_embed_bench.run import operators  # few runs want them

            return operators.run(args, _files(args, args.files))
        if args.compare:
            return _compare(args)
        if args.check:
            return _check(args)
        again = [path.suffix.lower() == ".json" for path in args.files]
        return _show(args) if again and all(again) else _measure_all(args)


def _measure_all(args: argparse.Namespace) -> int:
    records: list[Record] = []
    try:
        _measure(args, args.files, records)
    finally:
        if records:  # also at an interrupt
            sys.stdout.write(to_json(records) if args.json else to_table(records, full=args.full))
    return _code(records)


def _show(args: argparse.Namespace) -> int:
    """Makes reports of earlier records, of this machine or of others."""
    if given := [name for name in (*_MATRIX, "synthetic") if getattr(args, name)]:
        raise InputError(
            "a .json report is only shown again; this option does nothing then",
            got=f"--{given[0]}",
            fix="leave it out",
        )
    records = [record for path in unique(args.files) for record in read(path)]
    quality = _quality(args, {record.model.file for record in records})
    reports.check_outputs(args.output or [])
    reports.write(args.output or [], records, quality, full=args.full)
    sys.stdout.write(to_json(records) if args.json else to_table(records, full=args.full))
    return _code(records)


def _compare(args: argparse.Namespace) -> int:
    """Compares two reports, or measures two model files by turns and compares them."""
    if args.files or args.synthetic:
        raise InputError("--compare takes no other files", fix="leave the other files out")
    if args.peers:
        raise InputError("--compare takes no peers", fix="leave --peers out")
    old, new = args.compare
    written = [path.suffix.lower() == ".json" for path in (old, new)]
    if any(written) and not all(written):
        raise InputError(
            "cannot compare a report with a model file",
            got=f"{old}, {new}",
            expected="two .json reports or two model files",
        )
    threshold = (THRESHOLD if args.threshold is None else args.threshold) / 100
    if all(written):
        if given := [name for name in (*_MATRIX, "output") if getattr(args, name)]:
            raise InputError(
                "this option does nothing when two reports are compared",
                got=f"--{given[0]}",
                fix="leave it out, or compare two model files",
            )
        result = comparison.compare_records(read(old), read(new), threshold=threshold)
    else:
        records: list[Record] = []
        _measure(args, [old, new], records)
        if not args.json:
            sys.stdout.write(to_table(records, full=args.full) + "\n")
        # Every cell gives a record of each, in their order.
        result = comparison.compare_records(records[0::2], records[1::2], threshold=threshold, by_file=False)
    sys.stdout.write(comparison.to_json(result) if args.json else comparison.to_text(result))
    return int(bool(result.failed))


def _check(args: argparse.Namespace) -> int:
    """Measures what a published report measured, or reads another report, and compares their ratios."""
    published = read(args.check)
    records: list[Record] = []
    if args.files and all(path.suffix.lower() == ".json" for path in args.files):
        if given := [name for name in (*_MATRIX, "synthetic", "output") if getattr(args, name)]:
            raise InputError(
                "this option does nothing when two reports are compared",
                got=f"--{given[0]}",
                fix="leave it out, or name model files",
            )
        records = [record for path in unique(args.files) for record in read(path)]
    else:
        _as_published(args, published)
        _measure(args, args.files, records)
        if not args.json:
            sys.stdout.write(to_table(records, full=args.full) + "\n")
    threshold = (THRESHOLD if args.threshold is None else args.threshold) / 100
    result = ratios.check_ratios(published, records, slack=threshold)
    sys.stdout.write(ratios.to_json(result) if args.json else ratios.to_text(result))
    return int(bool(result.failed))


def _as_published(args: argparse.Namespace, published: Sequence[Record]) -> None:
    """Takes from a report what the command line leaves open: files, peers and the matrix."""
    kind = CORPUS if args.corpus else LATENCY
    rows = [r for r in published if r.kind == kind and r.cell.target == "local"]
    ours = [r for r in rows if r.engine.name == OURS]
    args.peers = args.peers or unique([r.engine.name for r in rows if r.engine.name in PEERS])
    if not (ours and args.peers):
        raise InputError(
            f"{args.check} has no {kind} record of this project beside a peer",
            got=f"{len(published)} records",
            fix="name a report that was measured with --peers"
            + (", or add --corpus" if any(r.kind == CORPUS for r in published) and not args.corpus else ""),
        )
    if not (args.files or args.synthetic):
        if not all(r.model.synthetic for r in ours):
            raise InputError(
                "the model file to measure is missing",
                fix="name it: what the checkpoint is converted to now, with the recipe of the report",
                expected=", ".join(unique([r.label for r in ours])),
            )
        args.synthetic = unique([r.model.name.removeprefix(f"{SYNTHETIC_MARK}-") for r in ours])
        args.recipe = args.recipe or unique([r.model.recipe for r in ours])
    if not args.corpus:
        args.lengths = args.lengths or unique([r.cell.length for r in ours])
    args.threads = args.threads or unique([r.cell.threads for r in ours])
    args.batch = args.batch or unique([r.cell.batch for r in ours])


def _measure(args: argparse.Namespace, paths: Sequence[Path], records: list[Record]) -> None:
    """Appends each record when it is finished, and writes the reports."""
    # First every check that is quick: building a model takes minutes.
    output = args.output or []
    reports.check_outputs(output)
    choose("peer", args.peers or [], {name: name for name in PEERS})
    if args.corpus and args.lengths:
        raise InputError("a corpus determines the lengths", fix="leave --lengths or --corpus out")
    texts = documents(args.corpus, args.field, args.titles_field, args.limit) if args.corpus else []
    axes = _axes(args)
    targets = session.open_targets(axes, Settings(args.prepare_target, args.target_python, args.timeout))
    models = [Model.open(path) for path in _files(args, paths)]
    quality = _quality(args, {model.path.name for model in models})
    axes = dataclasses.replace(axes, lengths=[0] if args.corpus else check_lengths(models, args.lengths))
    plan = Plan(_run(args), loads=args.loads, timeout=args.timeout)
    subjects = [_ours(model, bool(args.peers)) for model in models]
    if args.peers:
        subjects += _peers(args, models, axes, plan)
        if args.corpus:
            subjects = _checked(subjects, plan, max(axes.threads))
    work = (
        session.index(targets, axes, subjects, plan, args.corpus, texts)
        if args.corpus
        else session.measure(targets, axes, subjects, plan)
    )
    try:
        with progress_bar(len(list(axes.cells())) * len(subjects), "measuring", unit="record") as advance:
            for record in work:
                records.append(record)
                reports.write(output, records, quality, plots=False, full=args.full)
                advance(1)
    finally:
        if records:
            reports.write(output, records, quality, full=args.full)


def _ours(model: Model, checked: bool) -> Subject:
    """Returns a file as a subject. Beside peers it must reach the cosine that its conversion asked for."""
    least = model.manifest.parity.thresholds.get("cosine_min", 0.0) if checked else 0.0
    return Subject(model, least_cosine=least)


def _peers(args: argparse.Namespace, models: Sequence[Model], axes: Axes, plan: Plan) -> list[Subject]:
    """Returns the peers of the first file, and adds the vectors of the source to the plan."""
    from edge_embed_bench.peers import registry as peers  # few runs have them

    checkpoint = args.checkpoint
    if checkpoint is None and len(args.synthetic or []) == 1 and not args.files:
        checkpoint = synthetic_checkpoint(args.synthetic[0])
    if checkpoint is None:
        raise InputError(
            "peers need the checkpoint that the file was made from", fix="name it with --checkpoint"
        )
    if len({model.manifest.source.sha256 for model in models}) > 1:
        raise InputError(
            "the files come from different weights", fix="measure each file separately, with its peers"
        )
    threads = max(axes.threads)
    lead = models[0]
    subjects = peers.subjects(args.peers, lead, checkpoint, threads, plan.timeout)
    lengths = [min(CHECK_LENGTH, lead.manifest.max_tokens)] if args.corpus else list(axes.lengths)
    vectors = peers.reference_vectors(
        lead,
        checkpoint,
        lengths,
        batch=1 if args.corpus else max(axes.batches),
        seed=args.seed,
        threads=threads,
        timeout=plan.timeout,
    )
    for model in models:
        plan.reference.update({(model.facts.sha256, length): rows for (_, length), rows in vectors.items()})
    return subjects


def _checked(subjects: Sequence[Subject], plan: Plan, threads: int) -> list[Subject]:
    """Returns the subjects of a corpus. One that is wrong or does not run has the reason as `problem`.

    The vectors of a corpus are not checked, so one text is compared with the source first.
    """
    manifest = subjects[0].model.manifest
    axes = Axes(["local"], ["cpu"], [min(CHECK_LENGTH, manifest.max_tokens)], [threads], [1])
    short = dataclasses.replace(plan, loads=1, run=dataclasses.replace(plan.run, warmup=0, repetitions=1))
    found = session.measure(session.open_targets(axes), axes, subjects, short)
    return [dataclasses.replace(s, problem=r.error) for s, r in zip(subjects, found, strict=True)]


def _files(args: argparse.Namespace, paths: Sequence[Path]) -> list[Path]:
    """Returns the model files, after building those that are synthetic."""
    for path in paths:
        if path.suffix.lower() == ".json":
            raise InputError(
                "cannot measure a report", got=str(path), fix="name model files, or reports and nothing else"
            )
        if path.name.isdecimal() and not path.exists():
            raise InputError(
                f"there is no model file {path}", fix=f"a list takes commas: --lengths 16,{path.name}"
            )
    files = list(paths)
    if args.synthetic:
        require_known(args.synthetic)
        for recipe in args.recipe or []:
            require_recipe(recipe)
        with step_bar("building the synthetic model") as progress:
            recipes = args.recipe or [None]
            files += [build(n, recipe, progress=progress) for n in args.synthetic for recipe in recipes]
    return files if args.compare else unique(files)


def _axes(args: argparse.Namespace) -> Axes:
    """Returns the matrix without its lengths, which depend on the files."""
    threads = [check_threads(n) for n in args.threads] if args.threads else [check_threads(None)]
    return Axes(
        targets=unique(args.targets or ["local"]),
        accelerators=unique(args.accelerators or ["cpu"]),
        lengths=[],
        threads=unique(threads),
        batches=unique(args.batch or [CORPUS_BATCH if args.corpus else 1]),
    )


def _quality(args: argparse.Namespace, files: set[str]) -> dict[str, float] | None:
    """Returns the scores to plot.

    Raises:
        InputError: If the file has no scores, or scores of other files.
    """
    if args.quality is None:
        return None
    scores = read_scores(args.quality)
    if not files & scores.keys():
        raise InputError(
            f"{args.quality} has no score of these files", got=", ".join(scores), expected=", ".join(files)
        )
    return scores


def _run(args: argparse.Namespace) -> Run:
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    words = shlex.join(["edge_embed", *sys.argv[1:]])
    return Run(words, started, args.warmup, args.repetitions, args.seed, [])


def _code(records: Sequence[Record]) -> int:
    return int(any(r.status == FAILED and r.engine.name == OURS for r in records))


_NEEDS = (
    ("recipe", ("synthetic",), "--recipe does nothing without --synthetic"),
    ("field", ("corpus",), "--field does nothing without --corpus"),
    ("titles_field", ("corpus",), "--titles-field does nothing without --corpus"),
    ("limit", ("corpus",), "--limit does nothing without --corpus"),
    ("checkpoint", ("peers", "check"), "--checkpoint does nothing without --peers"),
    ("threshold", ("compare", "check"), "--threshold does nothing without --compare"),
    ("quality", ("output",), "--quality does nothing without a plot"),
)
"""Options that need one of others. Without it they are refused."""


def _refuse_idle_options(args: argparse.Namespace) -> None:
    if args.check and args.compare:
        raise InputError("--check and --compare are two questions", fix="leave one of them out")
    for name, needed, meaning in _NEEDS:
        if getattr(args, name) is not None and not any(getattr(args, other) for other in needed):
            raise InputError(meaning, fix=f"add --{needed[0]}, or leave it out")
    if args.quality and args.corpus:
        raise InputError("a corpus run has no plot of size against quality", fix="leave --quality out")
    if args.quality and not any(path.suffix.lower() in reports.PLOTTED for path in args.output):
        raise InputError(
            "--quality does nothing without a plot",
            got=f"--output {', '.join(map(str, args.output))}",
            expected=f"an output that ends in {', '.join(reports.PLOTTED)}",
        )
