"""The command `edge_embed embed`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_embed.cli import options
from edge_embed.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edge_embed import Embedder
    from edge_embed.cli.files import Texts

SUMMARY = "turn texts into vectors"

_EPILOG = """\
examples:
  edge_embed embed model.tflite "A cat slept on the warm engine."
  edge_embed embed model.tflite --query "where do cats sleep?" --json
  edge_embed embed model.tflite --input notes.txt --document --output notes.npy
  edge_embed embed model.tflite --input docs.jsonl --field body --output docs.parquet
  cat notes.txt | edge_embed embed model.tflite > notes.jsonl"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `edge_embed embed`."""
    options.add_model(parser)
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="texts; lines of stdin where none are given")
    files = parser.add_argument_group("files")
    files.add_argument(
        "-i",
        "--input",
        metavar="FILE",
        help="read texts: .txt (one per line), .jsonl, .parquet, or - for stdin",
    )
    options.add_fields(files)
    files.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        help="write vectors: .npy (only them), .jsonl or .parquet (the input's fields and 'embedding')",
    )
    prompts = parser.add_argument_group("prompt").add_mutually_exclusive_group()
    prompts.add_argument(
        "--query", action="store_true", help="embed as queries, with the model's query prompt"
    )
    prompts.add_argument("--document", action="store_true", help="embed as documents, with their prompt")
    prompts.add_argument(
        "--prompt-name", "--task", metavar="NAME", help="use this prompt; `edge_embed inspect` lists them"
    )
    options.add_runtime(parser)
    parser.add_argument(
        "--batch-size", metavar="N", type=options.positive, default=32, help="texts per step (default: 32)"
    )
    options.add_json(parser, "print JSON lines on a terminal too; with --output, a summary as JSON")
    parser.epilog = _EPILOG


def run(args: argparse.Namespace) -> int:
    """Embeds and writes, or prints a line per text."""
    from edge_embed.cli import files  # numpy waits until there is work

    if args.titles_field and not args.document:
        raise InputError("titles belong to documents", fix="add --document, or leave --titles-field out")
    if args.output is not None:
        files.check_output(args.output)
    texts = _gather(args)
    with options.open_embedder(args) as model:
        vectors = _encode(model, texts, args)
    if args.output is not None:
        files.write_vectors(args.output, texts, vectors)
        summary = {"output": str(args.output), "texts": len(vectors), "dimension": vectors.shape[1]}
        if args.json:
            options.print_json(summary)
        else:
            print(f"wrote {len(vectors)} vectors of {vectors.shape[1]} numbers to {args.output}")
    elif args.json or not sys.stdout.isatty():
        for record, vector in zip(texts.records, vectors, strict=True):
            options.print_json(record | {files.EMBEDDING_FIELD: files.numbers(vector)})
    else:
        _show(texts.texts, vectors)
    return 0


def _gather(args: argparse.Namespace) -> Texts:
    from edge_embed.cli import files

    if args.texts and args.input:
        raise InputError("texts come from the command line or from --input", got="both", fix="leave one out")
    if args.texts:
        if args.field or args.titles_field:
            raise InputError("texts on the command line have no fields", fix="use --input with a .jsonl file")
        return files.Texts.of(args.texts)
    if args.input is None and (sys.stdin is None or sys.stdin.isatty()):
        raise InputError("there is no text to embed", fix="give texts, --input FILE, or pipe lines in")
    return files.read_texts(args.input or files.STDIN, args.field, args.titles_field)


def _encode(model: Embedder, texts: Texts, args: argparse.Namespace) -> npt.NDArray[np.float32]:
    if args.query:
        return model.encode_query(texts.texts, batch_size=args.batch_size)
    if args.document:
        return model.encode_document(texts.texts, titles=texts.titles, batch_size=args.batch_size)
    return model.encode(texts.texts, prompt_name=args.prompt_name, batch_size=args.batch_size)


def _show(texts: list[str], vectors: npt.NDArray[np.float32]) -> None:
    """Prints for people: how each vector begins, and its text as far as the line goes."""
    width = shutil.get_terminal_size().columns
    for text, vector in zip(texts, vectors, strict=True):
        start = " ".join(f"{value:+.4f}" for value in vector[:4].tolist())
        line = f"[{start}{' …' if len(vector) > 4 else ''}] {len(vector)} numbers  "
        print(line + shorten(text, width - len(line)))


def shorten(text: str, width: int) -> str:
    """Returns a text on one line of at most `width` letters, quoted."""
    quoted = json.dumps(text, ensure_ascii=False)
    return quoted if len(quoted) <= max(width, 8) else f'{quoted[: max(width, 8) - 2]}…"'
