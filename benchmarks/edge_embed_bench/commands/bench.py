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
Every option that takes a list takes it with commas, or repeated; the lists form a matrix. Every subject is
measured in processes of its own, and the subjects of one cell take turns. An interrupt keeps the finished
records.

examples:
  edge_embed bench model.tflite --lengths 16,64,256 --threads 1,2
  edge_embed bench a.tflite b.tflite --output results.json,results.md
  edge_embed bench model.tflite --corpus documents.jsonl
  edge_embed bench --synthetic embeddinggemma-300m
  edge_embed bench model.tflite --targets local,ssh://pi@raspberrypi.local
  edge_embed bench laptop.json phone.json --output both.html
  edge_embed bench model.tflite --index --corpus documents.jsonl --queries questions.txt
  edge_embed bench model.tflite --serve --output serve.json,serve.md
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
        "show again, together",
    )
    _add_list(
        parser,
        "--synthetic",
        "NAME,…",
        _names,
        f"measure random weights of a released shape, built once and kept: {', '.join(SYNTHETIC)}",
    )
    _add_list(parser, "--recipe", "NAME,…", _names, "recipes of --synthetic (default: the family's)")
    matrix = parser.add_argument_group("matrix")
    _add_list(
        matrix,
        "--lengths",
        "N,…",
        _numbers,
        "tokens per text, special ones included (default: the files' buckets)",
    )
    _add_list(matrix, "--threads", "N,…", _numbers, "threads (default: usable cores, at most 4)")
    _add_list(matrix, "--batch", "N,…", _numbers, "texts per call (default: 1; with --corpus 32)")
    _add_list(
        matrix,
        "--accelerators",
        "NAME,…",
        _names,
        "what runs it: cpu, gpu, npu, auto (default: cpu; see docs/accelerators.md)",
    )
    _add_list(
        matrix,
        "--targets",
        "NAME,…",
        _names,
        "where it runs: local, emulated:aarch64[/CPU], ssh://[USER@]HOST[:PORT], adb[:SERIAL], "
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
        f"engines to measure beside ours, over the same weights and token ids: {', '.join(PEERS)}",
    )
    beside.add_argument(
        "--checkpoint", metavar="DIR", type=Path, help="what the files were made from; peers need it"
    )
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument(
        "--repetitions",
        metavar="N",
        type=options.positive,
        default=20,
        help="samples per cell (default: 20)",
    )
    sampling.add_argument(
        "--warmup", metavar="N", type=_whole, default=3, help="untimed calls ahead of them (default: 3)"
    )
    sampling.add_argument(
        "--loads", metavar="N", type=options.positive, default=5, help="warm loads per cell (default: 5)"
    )
    sampling.add_argument("--seed", metavar="N", type=_whole, default=0, help="of the token ids (default: 0)")
    sampling.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=options.positive,
        default=900,
        help="when a measuring process counts as hung (default: 900)",
    )
    corpus = parser.add_argument_group("corpus")
    corpus.add_argument(
        "--corpus", metavar="FILE", type=Path, help="embed these documents instead (.txt, .jsonl, .parquet)"
    )
    options.add_fields(corpus)
    corpus.add_argument("--limit", metavar="N", type=options.positive, help="only the first N documents")
    index = parser.add_argument_group("index")
    index.add_argument(
        "--index",
        action="store_true",
        help="measure the index instead: building, opening, searching, with the vectors of --corpus; "
        f"peers are {', '.join(INDEX_PEERS)}",
    )
    index.add_argument(
        "--queries", metavar="FILE", type=Path, help="questions to search for (.txt, .jsonl, .parquet)"
    )
    _add_list(index, "--chunks", "N,…", _numbers, "sizes of the index (default: the corpus)")
    _add_list(
        index, "--dimensions", "N,…", _numbers, "numbers of each vector that are kept (default: the model's)"
    )
    index.add_argument(
        "--work", metavar="DIR", type=Path, help="keep vectors and index files here for the next run"
    )
    serve = parser.add_argument_group("server")
    serve.add_argument(
        "--serve",
        action="store_true",
        help="measure the server instead: rate and latency beside the model itself, memory over many "
        "requests, overload",
    )
    serve.add_argument(
        "--rounds", metavar="N", type=options.positive, default=5, help="rounds of turns (default: 5)"
    )
    serve.add_argument(
        "--requests",
        metavar="N",
        type=options.positive,
        default=10_000,
        help="requests while the memory is watched (default: 10000)",
    )
    compare = parser.add_argument_group("comparing")
    compare.add_argument(
        "--compare",
        nargs=2,
        metavar=("OLD", "NEW"),
        type=Path,
        help="compare two .json reports, or measure two model files by turns and compare them; "
        "exit code 1 if NEW is worse",
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
        help=f"how much worse is a regression (default: {THRESHOLD:g}); with --check, of memory alone",
    )
    output = parser.add_argument_group("output")
    _add_list(
        output,
        "--output",
        "PATH,…",
        _paths,
        "reports to write: .json, .csv, .md, .html, .png, .svg, .pdf; finished records are in the first "
        "three at any time",
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
    options.add_json(parser, "print the result as JSON and no table")
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
