"""The command `edge_embed embed`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from edge_embed.cli import options
from edge_embed.errors import InputError
from edge_embed.progress import progress_bar

if TYPE_CHECKING:
    from edge_embed import Embedder
    from edge_embed.bulk.job import Prompting
    from edge_embed.bulk.output import Vectors
    from edge_embed.bulk.rows import Fields, Part

SUMMARY = "turn texts into vectors"

PRINTED = 64
"""Texts that are embedded before their lines are printed."""

_EPILOG = """\
examples:
  edge_embed embed model.tflite "A cat slept on the warm engine."
  edge_embed embed model.tflite --query "where do cats sleep?" --json
  edge_embed embed model.tflite --input notes.txt --document --output notes.npy
  edge_embed embed model.tflite --input docs.jsonl --field body --output docs.parquet
  edge_embed embed model.tflite --input big.jsonl.xz --output big.parquet --resume
  edge_embed embed model.tflite --input 'in/*.parquet' --output out/ --engine ray
  cat notes.txt | edge_embed embed model.tflite > notes.jsonl"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `edge_embed embed`."""
    options.add_model(parser, following="texts")
    parser.add_argument(
        "texts", metavar="TEXT", nargs="*", help="texts to embed (default: the lines of stdin)"
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "-i",
        "--input",
        metavar="FILE",
        help="read texts: .txt (one per line), .jsonl (both also .gz, .xz), .parquet, or - for stdin",
    )
    options.add_fields(files)
    files.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        help="write vectors: .npy (only them), .jsonl or .parquet (the input's fields and 'embedding')",
    )
    interrupted = files.add_mutually_exclusive_group()
    interrupted.add_argument(
        "--resume", action="store_true", help="continue an interrupted run with the same --output"
    )
    interrupted.add_argument(
        "--restart",
        action="store_true",
        help="discard an interrupted run with the same --output, and start again",
    )
    files.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        default="stop",
        help="what to do with a row that has no usable text: stop, or list it in OUTPUT.errors.jsonl "
        "(default: stop)",
    )
    cluster = parser.add_argument_group("many machines")
    cluster.add_argument(
        "--engine",
        choices=("ray",),
        help="embed the Parquet files of --input (a folder or a pattern) into the folder --output, one "
        "file per worker; after an interruption run the same command again to continue",
    )
    cluster.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="the Ray cluster (default: one that Ray finds, or this machine)",
    )
    cluster.add_argument(
        "--workers",
        metavar="N",
        type=options.positive,
        help="number of workers (default: the number of cores)",
    )
    prompts = parser.add_argument_group("prompt").add_mutually_exclusive_group()
    prompts.add_argument(
        "--query", action="store_true", help="embed as queries, with the model's query prompt"
    )
    prompts.add_argument(
        "--document", action="store_true", help="embed as documents, with the model's document prompt"
    )
    prompts.add_argument(
        "--prompt-name", "--task", metavar="NAME", help="use this prompt; `edge_embed inspect` lists them"
    )
    options.add_runtime(parser)
    parser.add_argument(
        "--part-size",
        metavar="N",
        type=options.positive,
        help="rows that are read, embedded and written at a time (default: 1024)",
    )
    options.add_json(parser, "print JSON lines on a terminal too; with --output, print a summary as JSON")
    parser.epilog = _EPILOG


def run(args: argparse.Namespace) -> int:
    """Embeds and writes, or prints a line per text."""
    from edge_embed.bulk.job import Prompting  # numpy waits until there is work
    from edge_embed.bulk.rows import Fields

    _check(args)
    role = "query" if args.query else "document" if args.document else None
    prompting, fields = Prompting(role, args.prompt_name), Fields(args.field, args.titles_field)
    with options.open_embedder(args) as model:
        if args.engine is not None:
            return _write_folder(model, args, fields, prompting)
        if args.output is not None and not args.texts:
            return _write_file(model, args, fields, prompting)
        if args.output is not None:
            return _write_given(model, args, prompting)
        return _print(model, args, fields, prompting)


def _check(args: argparse.Namespace) -> None:
    if args.titles_field and not args.document:
        raise InputError(
            "titles can only be used with documents", fix="add --document, or leave --titles-field out"
        )
    if args.texts and args.input:
        raise InputError("texts come from the command line or from --input", got="both", fix="leave one out")
    if args.texts and (args.field or args.titles_field):
        raise InputError("texts on the command line have no fields", fix="use --input with a .jsonl file")
    if not args.texts and args.input is None and (sys.stdin is None or sys.stdin.isatty()):
        raise InputError("there is no text to embed", fix="give texts, --input FILE, or pipe lines in")
    if args.engine is not None and (args.input is None or args.output is None or args.texts):
        raise InputError("--engine works on files", fix="add --input 'in/*.parquet' --output out/")
    if args.engine is not None and args.accelerator != "cpu":
        raise InputError("workers run on the CPU", got=f"--accelerator {args.accelerator}")
    if args.engine is None and (args.address or args.workers):
        raise InputError("--address and --workers can only be used with --engine", fix="add --engine ray")
    if (args.resume or args.restart) and args.output is None:
        raise InputError("only a run with --output can be continued", fix="add --output FILE")


def _write_file(model: Embedder, args: argparse.Namespace, fields: Fields, prompting: Prompting) -> int:
    """Embeds a file of any size into another."""
    from edge_embed.bulk.job import embed_file
    from edge_embed.bulk.rows import PART, STDIN

    try:
        with progress_bar(None, "embedding") as bar:
            summary = embed_file(
                model,
                args.input or STDIN,
                args.output,
                fields=fields,
                prompting=prompting,
                skip_bad=args.on_error == "skip",
                resume=args.resume,
                restart=args.restart,
                part_size=args.part_size or PART,
                begin=bar.begin,
                advance=bar,
            )
    except KeyboardInterrupt:
        print("edge_embed: what was done is kept; the same command with --resume goes on", file=sys.stderr)
        raise
    facts = {"output": str(args.output), "texts": summary.embedded, "dimension": summary.dimension}
    if args.json:
        options.print_json(facts | {"bad": summary.bad, "resumed": summary.resumed})
        return 0
    print(f"wrote {summary.embedded} vectors of {summary.dimension} numbers to {args.output}")
    if summary.bad:
        print(f"{summary.bad} rows could not be embedded; see {summary.bad_path}")
    return 0


def _write_folder(model: Embedder, args: argparse.Namespace, fields: Fields, prompting: Prompting) -> int:
    """Embeds the files of a folder on a cluster."""
    from edge_embed.bulk.rows import PART
    from edge_embed.integrations.ray import embed_folder

    try:
        # Ray prints there what it hears of dying machines; its log files have that too.
        with (
            open(os.devnull, "w") as nowhere,
            redirect_stdout(nowhere),
            progress_bar(None, "embedding") as bar,
        ):
            summary = embed_folder(
                model,
                args.input,
                args.output,
                fields=fields,
                prompting=prompting,
                skip_bad=args.on_error == "skip",
                restart=args.restart,
                address=args.address,
                workers=args.workers,
                threads=args.threads or 1,
                part_size=args.part_size or PART,
                begin=bar.begin,
                advance=bar,
            )
    except KeyboardInterrupt:
        print("edge_embed: what was done is kept; the same command goes on", file=sys.stderr)
        raise
    facts = {"output": str(args.output), "files": summary.files, "finished_before": summary.finished_before}
    facts |= {"texts": summary.embedded, "bad": summary.bad, "dimension": summary.dimension}
    if args.json:
        options.print_json(facts)
        return 0
    before = f" ({summary.finished_before} were finished before)" if summary.finished_before else ""
    print(f"wrote {summary.embedded} vectors of {summary.dimension} numbers")
    print(f"{summary.files} files are in {args.output}{before}")
    for path in summary.bad_paths:
        print(f"rows that could not be embedded: {path}")
    return 0


def _write_given(model: Embedder, args: argparse.Namespace, prompting: Prompting) -> int:
    """Embeds the texts of the command line into a file."""
    from edge_embed.bulk.formats import open_output
    from edge_embed.bulk.rows import TEXT_FIELD, Part

    part = Part(
        0,
        rows=list(range(len(args.texts))),
        texts=args.texts,
        records=[{TEXT_FIELD: text} for text in args.texts],
        size=len(args.texts),
    )
    output = open_output(args.output, {}, model.get_embedding_dimension())
    try:
        output.begin(resume=False, restart=True)
        output.write(part, prompting.encode(model, part))
        output.finish()
    finally:
        output.close()
    facts = {"output": str(args.output), "texts": part.size, "dimension": output.progress.dimension}
    if args.json:
        options.print_json(facts)
    else:
        print(f"wrote {part.size} vectors of {facts['dimension']} numbers to {args.output}")
    return 0


def _print(model: Embedder, args: argparse.Namespace, fields: Fields, prompting: Prompting) -> int:
    """Prints a line for each text as soon as its vector is there."""
    from edge_embed.bulk.formats import json_lines
    from edge_embed.bulk.rows import STDIN, TEXT_FIELD, Part, read_parts
    from edge_embed.text.tally import one_warning

    if args.texts:
        records = [{TEXT_FIELD: text} for text in args.texts]
        parts = iter([Part(0, list(range(len(records))), args.texts, None, records, size=len(records))])
    else:
        source = args.input or STDIN
        parts = read_parts(
            source, fields, size=PRINTED, keep_bad=args.on_error == "skip", eager=source == STDIN
        )
    for_programs = args.json or not sys.stdout.isatty()
    with one_warning():
        for part in parts:
            for bad in part.bad:
                print(f"edge_embed: skipped {bad.place}: {bad.reason}", file=sys.stderr)
            if not part.texts:
                continue
            vectors = prompting.encode(model, part)
            if for_programs:
                for line in json_lines(part, vectors):
                    print(line)
                sys.stdout.flush()
            else:
                _show(part, vectors)
    return 0


def _show(part: Part, vectors: Vectors) -> None:
    """Prints for people: how each vector begins, and its text as far as the line goes."""
    width = shutil.get_terminal_size().columns
    for text, vector in zip(part.texts, vectors, strict=True):
        start = " ".join(f"{value:+.4f}" for value in vector[:4].tolist())
        line = f"[{start}{' …' if len(vector) > 4 else ''}] {len(vector)} numbers  "
        print(line + shorten(text, width - len(line)))


def shorten(text: str, width: int) -> str:
    """Returns a text on one line of at most `width` letters, quoted."""
    quoted = json.dumps(text, ensure_ascii=False)
    return quoted if len(quoted) <= max(width, 8) else f'{quoted[: max(width, 8) - 2]}…"'
