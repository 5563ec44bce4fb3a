"""The command `edge_embed bench`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from edge_embed.cli import options
from edge_embed_bench.names import INDEX_PEERS, PEERS, SYNTHETIC, THRESHOLD

SUMMARY = "measure latency, memory and quality"
EXTRA = "bench"

_EPILOG = """\
Options with lists take values with commas, or can be repeated. All combinations of the lists are measured,
each model or engine in its own process, in turns. After an interrupt the finished records are kept.

examples:
  edge_embed bench model.tflite --lengths 16,64,256 --threads 1,2
  edge_embed bench a.tflite b.tflite --output results.json,results.md
  edge_embed bench model.tflite --corpus documents.jsonl
  edge_embed bench --synthetic embeddinggemma-300m
  edge_embed bench model.tflite --targets local,ssh://pi@raspberrypi.local
  edge_embed bench laptop.json phone.json --output both.html
  edge_embed bench model.tflite --index --corpus documents.jsonl --queries questions.txt
  edge_embed bench model.tflite --serve --output serve.json,serve.md
  edge_embed bench model.tflite --operators --lengths 16 --threads 1
  edge_embed bench --compare old.json new.json --threshold 10
  edge_embed bench --compare old.tflite new.tflite --lengths 16,256
  edge_embed bench model.tflite --check published.json --checkpoint directory

exit codes:
  0  done, and nothing regressed
  1  a file of ours could not be measured, --compare found a regression, or --check a ratio that fell; a
     failed peer is a row
  2  bad usage or input, or a target that cannot be used"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `edge_embed bench`."""
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        type=Path,
        help="model files to measure (default: the model that comes with the package), or .json reports to "
        "show together",
    )
    _add_list(
        parser,
        "--synthetic",
        "NAME,…",
        _names,
        f"measure a released model's shape with random weights, built once and kept: {', '.join(SYNTHETIC)}",
    )
    _add_list(parser, "--recipe", "NAME,…", _names, "recipes of --synthetic (default: the family's)")
    matrix = parser.add_argument_group("matrix")
    _add_list(
        matrix,
        "--lengths",
        "N,…",
        _numbers,
        "tokens per text, special tokens included (default: the files' buckets)",
    )
    _add_list(matrix, "--threads", "N,…", _numbers, "threads (default: usable cores, at most 4)")
    _add_list(matrix, "--batch", "N,…", _numbers, "texts per call (default: 1; with --corpus 32)")
    _add_list(
        matrix,
        "--accelerators",
        "NAME,…",
        _names,
        "what runs the graph: cpu, gpu, npu, auto (default: cpu; see docs/accelerators.md)",
    )
    _add_list(
        matrix,
        "--targets",
        "NAME,…",
        _names,
        "where to measure: local, emulated:aarch64[/CPU], ssh://[USER@]HOST[:PORT], adb[:SERIAL], "
        "browser (default: local; see docs/devices.md)",
        "--target",
    )
    options.add_target(matrix)
    beside = parser.add_argument_group("peers")
    _add_list(
        beside,
        "--peers",
        "NAME,…",
        _names,
        f"other engines to measure, with the same weights and token ids: {', '.join(PEERS)}",
    )
    beside.add_argument(
        "--checkpoint",
        metavar="DIR",
        type=Path,
        help="the checkpoint that the files were made from; --peers needs it",
    )
    matrix.add_argument(
        "--operators",
        action="store_true",
        help="show how long each kind of operator takes for one text, by LiteRT's profiler",
    )
    sampling = parser.add_argument_group("sampling")
    options.add_number(sampling, "--repetitions", 20, "samples for each combination")
    options.add_number(sampling, "--warmup", 3, "untimed calls before the samples", kind=_whole)
    options.add_number(sampling, "--loads", 5, "warm loads for each combination")
    options.add_number(sampling, "--seed", 0, "seed of the random token ids", kind=_whole)
    options.add_number(
        sampling,
        "--timeout",
        900,
        "stop a measuring process that has not answered after this time",
        metavar="SECONDS",
    )
    corpus = parser.add_argument_group("corpus")
    corpus.add_argument(
        "--corpus",
        metavar="FILE",
        type=Path,
        help="measure with these documents instead of random tokens (.txt, .jsonl, .parquet)",
    )
    options.add_fields(corpus)
    corpus.add_argument(
        "--limit", metavar="N", type=options.positive, help="embed only the first N documents"
    )
    index = parser.add_argument_group("index")
    index.add_argument(
        "--index",
        action="store_true",
        help="measure the index instead: building, opening and searching, with the vectors of --corpus; "
        f"its peers: {', '.join(INDEX_PEERS)}",
    )
    index.add_argument(
        "--queries",
        metavar="FILE",
        type=Path,
        help="questions to search the index for (.txt, .jsonl, .parquet)",
    )
    _add_list(index, "--chunks", "N,…", _numbers, "sizes of the index in chunks (default: the corpus)")
    _add_list(index, "--dimensions", "N,…", _numbers, "dimensions to cut vectors to (default: the model's)")
    index.add_argument(
        "--work", metavar="DIR", type=Path, help="keep vectors and index files here for the next run"
    )
    serve = parser.add_argument_group("server")
    serve.add_argument(
        "--serve",
        action="store_true",
        help="measure the server instead: rate and latency compared with the model alone, memory over many "
        "requests, overload",
    )
    options.add_number(serve, "--rounds", 5, "how often the server and the model are measured in turns")
    serve.add_argument(
        "--serve-peer",
        metavar="NAME=COMMAND",
        action="append",
        default=[],
        help="another server with /v1/embeddings, to be measured in turns with this one; its command "
        "names {port}",
    )
    options.add_number(serve, "--requests", 10_000, "number of requests for the measurement of memory")
    compare = parser.add_argument_group("comparing")
    compare.add_argument(
        "--compare",
        nargs=2,
        metavar=("OLD", "NEW"),
        type=Path,
        help="compare two .json reports, or measure two model files in turns and compare them; "
        "the exit code is 1 if NEW is worse",
    )
    compare.add_argument(
        "--check",
        metavar="REPORT",
        type=Path,
        help="measure the files beside the peers of a published .json report, with its lengths, threads and "
        "batches, and compare the ratios; with another .json report instead of files, compare that; exit "
        "code 1 if a ratio fell by more than its interval",
    )
    compare.add_argument(
        "--threshold",
        metavar="PERCENT",
        type=_percent,
        help=f"a loss of more than this counts as a regression (default: {THRESHOLD:g}); with --check, "
        "of memory alone",
    )
    output = parser.add_argument_group("output")
    _add_list(
        output,
        "--output",
        "PATH,…",
        _paths,
        "reports to write: .json, .csv, .md, .html, .png, .svg, .pdf; the first three are updated after each "
        "record",
        "-o",
    )
    output.add_argument(
        "--quality",
        metavar="FILE",
        type=Path,
        help="scores to plot against size: what `edge_embed eval --json` printed",
    )
    output.add_argument(
        "--full", action="store_true", help="every figure in the tables, not only ms, MB and the cosine"
    )
    options.add_json(parser, "print the result as JSON instead of a table")
    parser.epilog = _EPILOG


def _add_list(
    group: argparse._ActionsContainer,
    name: str,
    metavar: str,
    kind: Any,
    words: str,
    alias: str | None = None,
) -> None:
    """Adds an option that takes a list, in one word with commas or by being repeated."""
    names = [alias, name] if alias else [name]
    group.add_argument(*names, dest=name.strip("-"), metavar=metavar, type=kind, action="extend", help=words)


def run(args: argparse.Namespace) -> int:
    """Measures or compares.

    Returns:
        0, or 1 if a record failed or a comparison found a regression.
    """
    if not (args.files or args.synthetic or args.compare or args.check):
        args.files = [options.default_model()]
    # The help must not wait for numpy.
    if args.index:
        from edge_embed_bench.retrieval import bench as index_command

        return index_command.run(args)
    if args.serve:
        from edge_embed_bench.serve import bench as serve_command

        return serve_command.run(args)
    from edge_embed_bench.run import bench as command

    return command.run(args)


def _names(text: str) -> list[str]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"expected names with commas between them, got {text!r}")
    return names


def _numbers(text: str) -> list[int]:
    return [options.positive(name) for name in _names(text)]


def _paths(text: str) -> list[Path]:
    return [Path(name) for name in _names(text)]


def _whole(text: str) -> int:
    return 0 if text.strip() == "0" else options.positive(text)


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1000:
        raise argparse.ArgumentTypeError(f"expected a percentage of at least 0, got {text!r}")
    return value
