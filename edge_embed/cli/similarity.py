"""The command `edge_embed similarity`."""

from __future__ import annotations

import argparse
import shutil
import sys
from typing import TYPE_CHECKING, Any

from edge_embed.bulk.rows import STDIN
from edge_embed.cli import options
from edge_embed.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edge_embed import Embedder
    from edge_embed.cli.files import Texts

_TOP_OF_FILE = 10
"""Results per query where the documents come from a file and nothing else was asked."""

_QUERIES_AT_ONCE = 256
"""Keeps the table of scores small however many queries there are."""

SUMMARY = "rank documents by similarity to queries"

_EPILOG = """\
examples:
  edge_embed similarity model.tflite "how do plants eat?" "Photosynthesis feeds plants." "Rust eats iron."
  edge_embed similarity model.tflite "how do plants eat?" --documents docs.jsonl --top-k 3
  edge_embed similarity model.tflite --queries queries.txt --documents docs.txt --json"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `edge_embed similarity`."""
    options.add_model(parser, following="texts")
    parser.add_argument(
        "texts",
        metavar="TEXT",
        nargs="*",
        help="a query, then documents; leave out what --queries or --documents reads from a file",
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "--queries", metavar="FILE", help="read queries: .txt (one per line), .jsonl, .parquet, or -"
    )
    files.add_argument("--documents", metavar="FILE", help="read documents, in the same formats")
    options.add_fields(files)
    parser.add_argument(
        "--prompt-name",
        "--task",
        metavar="NAME",
        help="use this prompt for both sides (default: the model's prompts for queries and for documents)",
    )
    parser.add_argument(
        "--top-k",
        metavar="K",
        type=options.positive,
        help=f"results per query (default: {_TOP_OF_FILE} with --documents, otherwise all)",
    )
    options.add_runtime(parser)
    options.add_json(parser, "print a JSON object per query: query, results (rank, index, score, text)")
    parser.epilog = _EPILOG


def run(args: argparse.Namespace) -> int:
    """Ranks the documents for each query and prints them, best first."""
    import numpy as np  # the help must not wait for it

    from edge_embed.similarity import top

    queries, documents = _gather(args)
    count = args.top_k or (_TOP_OF_FILE if args.documents else len(documents.texts))
    with options.open_embedder(args) as model:
        query_vectors, document_vectors = _encode(model, queries, documents, args)
        for start in range(0, len(queries.texts), _QUERIES_AT_ONCE):
            chunk = slice(start, start + _QUERIES_AT_ONCE)
            scores = np.asarray(model.similarity(query_vectors[chunk], document_vectors))
            for query, row in zip(queries.texts[chunk], scores, strict=True):
                best = top(row, count).tolist()
                results = [
                    {"rank": rank, "index": i, "score": round(float(row[i]), 6), "text": documents.texts[i]}
                    for rank, i in enumerate(best, 1)
                ]
                _print(query, results, args.json)
    return 0


def _gather(args: argparse.Namespace) -> tuple[Texts, Texts]:
    from edge_embed.cli import files

    words = list(args.texts)
    if args.queries == args.documents == STDIN:
        raise InputError(
            "queries and documents cannot both come from stdin", fix="put one of them into a file"
        )
    if args.field and not (args.queries or args.documents):
        raise InputError("texts on the command line have no fields", fix="leave --field out")
    if args.titles_field and (not args.documents or args.prompt_name):
        raise InputError(
            "titles need documents from a file, and the document prompt",
            fix="use --documents without --prompt-name, or leave --titles-field out",
        )
    # A field named for JSONL must not keep the other side from being plain text.
    queries = _read(args.queries, args.field, None) if args.queries else files.Texts.of(words[:1])
    rest = words if args.queries else words[1:]
    if args.documents and rest:
        raise InputError("documents come from the command line or from --documents", got=f"both: {rest[0]!r}")
    documents = (
        _read(args.documents, args.field, args.titles_field) if args.documents else files.Texts.of(rest)
    )
    for texts, what, option in ((queries, "query", "--queries"), (documents, "document", "--documents")):
        if not texts.texts:
            raise InputError(f"there is no {what}", fix=f"give one, or use {option} FILE")
    return queries, documents


def _read(source: str, field: str | None, titles_field: str | None) -> Texts:
    from edge_embed.cli import files

    plain = source.lower().endswith(".txt")
    return files.read_texts(source, None if plain and not titles_field else field, titles_field)


def _encode(
    model: Embedder, queries: Texts, documents: Texts, args: argparse.Namespace
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    if args.prompt_name:
        return (
            model.encode(queries.texts, prompt_name=args.prompt_name),
            model.encode(documents.texts, prompt_name=args.prompt_name),
        )
    return model.encode_query(queries.texts), model.encode_document(documents.texts, titles=documents.titles)


def _print(query: str, results: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        options.print_json({"query": query, "results": results})
        return
    # Cut only where a person looks: a pipe gets every letter.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    print(_line(query, width))
    for result in results:
        start = f"{result['rank']:>4}  {result['score']:+.4f}  "
        print(start + _line(result["text"], width - len(start)))


def _line(text: str, width: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= max(width, 8) else f"{flat[: max(width, 8) - 1]}…"
