"""The command `edge_embed eval`."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path

from edge_embed.cli import options
from edge_embed.default_model import NAME
from edge_embed.errors import InputError
from edge_embed.progress import step_bar
from edge_embed.report_files import check_report_file, write_report

SUMMARY = "score models on evaluation sets, compared with their fp32 source"
EXTRA = "quality"

_EPILOG = """\
data sets, recognized by their layout:
  similarity      FILE.tsv with a header: sentence1, sentence2, score
  bitext          FILE.tsv of two columns without a header
  retrieval       DIRECTORY with corpus.jsonl, queries.jsonl and qrels.tsv (BEIR)
  classification  DIRECTORY with train.tsv and test.tsv, each with a header: text, label

examples:
  edge_embed eval model.int8.tflite model.mixed.tflite --source path/to/checkpoint --data scifact sts.tsv
  edge_embed eval model.int8.tflite --data scifact --dims 768,256,128 --output quality.md,quality.png
  edge_embed eval model.int8.tflite --data scifact --through-index --output index.md"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `edge_embed eval`."""
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        help="model files, checkpoint directories or hub ids "
        f"(default: {NAME}, which comes with the package)",
    )
    parser.add_argument(
        "--data",
        metavar="PATH",
        nargs="+",
        required=True,
        help="data sets; their layouts are described below",
    )
    parser.add_argument(
        "--source",
        metavar="MODEL",
        help="the fp32 source that losses are measured against (default: the first checkpoint among the "
        "models, else the first fp32 file)",
    )
    parser.add_argument(
        "--dims",
        metavar="N,…",
        type=_dims,
        help="cut vectors to these dimensions (default: all of the model's)",
    )
    parser.add_argument(
        "--through-index",
        action="store_true",
        help="put each retrieval set into an index, search it by meaning, by words and by both, and compare "
        "with an exact search",
    )
    parser.add_argument(
        "--indexes",
        metavar="DIR",
        type=Path,
        help="with --through-index: keep the indexes in this directory, and use those that it has",
    )
    options.add_number(parser, "--resamples", 1000, "bootstrap samples for each interval")
    parser.add_argument(
        "--output",
        "-o",
        metavar="FILE,…",
        type=_files,
        default=[],
        help="also write the report: .json, .md, .txt, or a plot as .png, .svg, .pdf",
    )
    options.add_threads(parser)
    options.add_json(parser, "print the report as JSON")
    options.add_checkpoint(parser)
    parser.epilog = _EPILOG


def run(args: argparse.Namespace) -> int:
    """Evaluates and prints the report."""
    # Imported here: the help must not wait for scipy and scikit-learn.
    from edge_embed_bench.quality import report as reports
    from edge_embed_bench.quality.evaluate import evaluate

    args.models = args.models or [str(options.default_model())]
    if args.through_index:
        return _through_index(args)
    for path in args.output:
        check_report_file(path, reports.WRITERS)
    with step_bar("evaluating") as progress:
        report = evaluate(
            args.models,
            args.data,
            source=args.source,
            dims=args.dims,
            resamples=args.resamples,
            num_threads=args.threads,
            progress=progress,
            pooling=args.pooling,
            max_tokens=args.max_tokens,
            sliding_window=args.sliding_window,
            without_dense=args.without_dense,
            revision=args.revision,
        )
    report = replace(report, command=_command(args))
    for path in args.output:
        write_report(report, path, reports.WRITERS)
    print(reports.to_json(report) if args.json else reports.to_text(report), end="" if args.json else "\n")
    return 0


def _through_index(args: argparse.Namespace) -> int:
    from edge_embed_bench.quality import through_index

    if args.dims or args.source:
        raise InputError(
            "--through-index compares searches of one model", fix="leave --dims and --source out"
        )
    for path in args.output:
        check_report_file(path, through_index.WRITERS)
    with step_bar("evaluating") as progress:
        report = through_index.evaluate_through_index(
            args.models,
            args.data,
            folder=args.indexes,
            resamples=args.resamples,
            num_threads=args.threads,
            progress=progress,
        )
    report = replace(report, command=_command(args))
    for path in args.output:
        write_report(report, path, through_index.WRITERS)
    if args.json:
        print(through_index.to_json(report), end="")
    else:
        print(through_index.to_markdown(report), end="")
    return 0


def _command(args: argparse.Namespace) -> str:
    """Returns the command line that repeats this evaluation, with file names instead of local paths."""
    words = ["edge_embed", "eval", *(Path(model).name for model in args.models)]
    words += ["--data", *(Path(data).name for data in args.data)]
    words += ["--source", Path(args.source).name] if args.source else []
    words += ["--through-index"] if args.through_index else []
    words += ["--dims", ",".join(map(str, args.dims))] if args.dims else []
    words += ["--threads", str(args.threads)] if args.threads else []
    return shlex.join([*words, "--resamples", str(args.resamples)])


def _dims(text: str) -> list[int]:
    dims = [options.positive(part.strip()) for part in text.split(",") if part.strip()]
    if not dims or len(set(dims)) < len(dims):
        raise argparse.ArgumentTypeError(f"expected different dimensions such as 768,256, got {text!r}")
    return dims


def _files(text: str) -> list[Path]:
    return [Path(part.strip()) for part in text.split(",") if part.strip()]
