"""The command `edge_embed index`."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from edge_embed.cli import options
from edge_embed.errors import InputError
from edge_embed.names import LEXICAL, STORED_VECTORS

if TYPE_CHECKING:
    from edge_embed import Embedder, Index
    from edge_embed.retrieval.files import FilesResult

SUMMARY = "put the documents of files and folders into one searchable file"

_SHOWN = 20
"""Skipped files that are listed; `--json` lists all."""

_EPILOG = """\
Text, Markdown, HTML, source code and JSONL are read; Parquet with the extra 'parquet', PDF with the extra
'documents'. Hidden files, and files that a .gitignore excludes, are not read. The command can be stopped at
any time and run again: documents that are stored already with the same content are not embedded again.

examples:
  edge_embed index model.tflite notes --into notes.db
  edge_embed index model.tflite notes --into notes.db --prune
  edge_embed index model.tflite src docs --into code.db --exclude 'tests/' --exclude '*.min.js'
  edge_embed index model.tflite corpus.jsonl --into corpus.db --field body --titles-field headline
  edge_embed index better-model.tflite --into notes.db --reindex"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `edge_embed index`."""
    options.add_model(parser, following="paths", chosen_later=True)
    parser.add_argument("paths", metavar="PATH", nargs="*", help="files and folders to read")
    parser.add_argument(
        "--into", metavar="FILE", type=Path, required=True, help="the index, for instance notes.db"
    )
    parser.add_argument(
        "--exclude",
        metavar="PATTERN",
        action="append",
        default=[],
        help="leave out files and folders that match, as in a .gitignore; can be given several times",
    )
    parser.add_argument(
        "--prune", action="store_true", help="remove documents whose files in PATH no longer exist"
    )
    parser.add_argument(
        "--reindex",
        action="store_true",
        help="cut and embed all stored documents again, with another model or other chunks",
    )
    records = parser.add_argument_group("JSONL and Parquet")
    options.add_fields(records, titles="title")
    records.add_argument(
        "--id-field",
        metavar="NAME",
        help="field that holds the id (default: id or _id, or else the number of the row)",
    )
    stored = parser.add_argument_group("index")
    stored.add_argument(
        "--chunk-tokens",
        metavar="N",
        type=options.positive,
        help="the greatest number of tokens in a chunk (default: what the model reads, at most 512)",
    )
    stored.add_argument(
        "--overlap",
        metavar="N",
        type=options.not_negative,
        help="tokens that neighbouring chunks share (default: an eighth of a chunk)",
    )
    stored.add_argument(
        "--truncate-dim", metavar="N", type=options.positive, help="keep the first N numbers of each vector"
    )
    stored.add_argument(
        "--vectors",
        choices=STORED_VECTORS,
        help="what is stored of each vector; float32 is kept beside int8 and allows an exact search "
        "(default: int8)",
    )
    stored.add_argument(
        "--lexical",
        choices=LEXICAL,
        help="how words are indexed; trigrams are for scripts without spaces (default: auto)",
    )
    running = parser.add_argument_group("running")
    options.add_threads(running)
    options.add_accelerator(running)
    options.add_json(parser, "print the summary as a JSON object")
    parser.epilog = _EPILOG


def run(args: argparse.Namespace) -> int:
    """Reads, embeds and stores; prints a summary.

    Returns:
        0, or 2 if no file could be read and some were skipped.
    """
    from edge_embed import Embedder, Index  # the help must not wait for them
    from edge_embed.retrieval.readers import Fields

    if not args.paths and not args.reindex:
        raise InputError("there is nothing to index", fix="name files or folders")
    started = time.perf_counter()
    fields = Fields(args.field or "text", args.titles_field or "title", args.id_field)
    with (
        Embedder(_model_path(args, Index), num_threads=args.threads, accelerator=args.accelerator) as model,
        _open(args, model, Index) as index,
    ):
        try:
            result = index.add_files(args.paths, exclude=args.exclude, prune=args.prune, fields=fields)
        except KeyboardInterrupt:
            stored = f"stopped; {len(index)} documents are stored, and the same command goes on from there"
            print(stored, file=sys.stderr)
            raise
        _report(args, index, result, time.perf_counter() - started)
    return 2 if result.skipped and not result.files else 0


def _model_path(args: argparse.Namespace, index: type[Index]) -> Path:
    """Returns the model of the command line, else the index's own, else the package's."""
    if args.model is not None:
        return args.model  # type: ignore[no-any-return]
    if args.into.exists():
        with index.open(args.into, read_only=True) as opened:
            return opened.model_path
    return options.default_model()


def _open(args: argparse.Namespace, model: Embedder, index: type[Index]) -> Index:
    """Opens the index for the model; with `--reindex` embeds again what is in it."""
    choices = {"dimension": args.truncate_dim, "chunk_tokens": args.chunk_tokens, "overlap": args.overlap}
    if not args.reindex:
        return index.open(args.into, model, vectors=args.vectors, lexical=args.lexical, **choices)
    if not args.into.exists():
        raise InputError(f"there is no index {args.into} to embed again", fix="leave --reindex out")
    opened = index.open(args.into)
    opened.reindex(model, **choices)
    return opened


def _report(args: argparse.Namespace, index: Index, result: FilesResult, seconds: float) -> None:
    stats = index.stats()
    if args.json:
        options.print_json(
            {
                "index": str(args.into),
                "files": result.files,
                **asdict(result.added),
                "removed": result.removed,
                "gone": result.gone,
                "skipped": [{"path": str(each.path), "reason": each.reason} for each in result.skipped],
                "unknown": result.unknown,
                "documents": stats.documents,
                "total_chunks": stats.chunks,
                "bytes": stats.file_bytes,
                "seconds": round(seconds, 3),
            }
        )
        return
    added = result.added
    print(
        f"{args.into}: {added.new} new, {added.changed} changed, {added.unchanged} unchanged, "
        f"{result.removed} removed; {stats.documents} documents in {stats.chunks} chunks, "
        f"{stats.file_bytes / 1e6:.1f} MB"
    )
    if result.gone:
        print(f"{result.gone} documents are in the index whose files are gone; --prune removes them")
    if result.unknown:
        endings = ", ".join(f"{ending} {count}" for ending, count in list(result.unknown.items())[:_SHOWN])
        print(f"not read, because their kind is unknown: {endings}")
    if result.skipped:
        print(f"skipped {len(result.skipped)}:")
        for each in result.skipped[:_SHOWN]:
            print(f"  {each.path}: {each.reason}")
        if len(result.skipped) > _SHOWN:
            print(f"  and {len(result.skipped) - _SHOWN} more, which --json lists")
