"""The command `edge_embed search`."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_embed.cli import options
from edge_embed.errors import InputError
from edge_embed.names import SEARCH_MODES

if TYPE_CHECKING:
    from edge_embed import Index
    from edge_embed.retrieval import Hit

SUMMARY = "search an index by meaning, by words, or by both"

_BOLD, _PLAIN = "\033[1m", "\033[0m"

_CONDITION = re.compile(r"([^=<>?]+?)\s*(\?|>=|<=|=|>|<)\s*(.*)", re.DOTALL)
_RANGES = {">=": "gte", ">": "gt", "<=": "lte", "<": "lt"}

_EPILOG = """\
A filter is FIELD=VALUE, FIELD>=VALUE (or >, <=, <), or 'FIELD?' for documents that have the field. Filters on
several fields must all match; of several values of one field with =, one must match. A filter may also be a
JSON object, as in the Python API.

examples:
  edge_embed search notes.db "how long must the dough rest?"
  edge_embed search notes.db "error 0x80070057" --mode text -k 3
  edge_embed search notes.db "rising rents" --where lang=en --where 'year>=2020'
  edge_embed search notes.db "how long must the dough rest?" --context 1000"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `edge_embed search`."""
    parser.add_argument("index", metavar="INDEX", type=Path, help="a file that `edge_embed index` wrote")
    parser.add_argument(
        "question", metavar="QUESTION", nargs="+", help="what to search for; several words make one question"
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        type=Path,
        help="the model file (default: the path that the index recorded)",
    )
    parser.add_argument(
        "-k",
        "--top-k",
        metavar="K",
        type=options.positive,
        default=10,
        help="the greatest number of hits (default: 10)",
    )
    parser.add_argument(
        "--mode",
        choices=SEARCH_MODES,
        default="hybrid",
        help="hybrid: by meaning and by words; vector: by meaning; text: by words, without a model "
        "(default: hybrid)",
    )
    parser.add_argument(
        "--where",
        metavar="FILTER",
        action="append",
        default=[],
        help="only documents whose metadata match; can be given several times",
    )
    parser.add_argument("--min-score", metavar="X", type=float, help="leave out hits with a lower score")
    parser.add_argument("--per-document", action="store_true", help="show only the best hit of each document")
    parser.add_argument(
        "--diversity",
        metavar="X",
        type=float,
        default=0.0,
        help="how much hits must differ from each other, 0 to 1 (default: 0)",
    )
    parser.add_argument(
        "--context",
        metavar="TOKENS",
        type=options.positive,
        help="print numbered passages with their sources instead, for a generator, of at most TOKENS tokens",
    )
    options.add_threads(parser)
    options.add_json(parser, "print a JSON object a hit; with --context, one with text, tokens and passages")
    parser.epilog = _EPILOG


def run(args: argparse.Namespace) -> int:
    """Searches and prints the hits, best first."""
    question = " ".join(args.question)
    where = parse_where(args.where)
    if not args.index.exists():
        raise InputError(f"{args.index} does not exist", fix="make it with edge_embed index")
    with _open(args) as index:
        settings: dict[str, Any] = {
            "mode": args.mode,
            "where": where,
            "min_score": args.min_score,
            "per_document": args.per_document,
            "diversity": args.diversity,
        }
        if args.context:
            context = index.context(question, args.context, **settings)
            options.print_json(asdict(context)) if args.json else print(context)
            return 0
        in_color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        marks = (_BOLD, _PLAIN) if in_color and not args.json else ("**", "**")
        hits = index.search(question, args.top_k, marks=marks, **settings)
        for rank, hit in enumerate(hits, 1):
            if args.json:
                options.print_json({"rank": rank, **asdict(hit)})
            else:
                _print(index, rank, hit)
    if not hits and not args.json:
        print("nothing found", file=sys.stderr)
    return 0


def _open(args: argparse.Namespace) -> Index:
    from edge_embed import Embedder, Index  # the help must not wait for them

    model = Embedder(args.model, num_threads=args.threads) if args.model else None
    return Index.open(args.index, model, read_only=True, memory="low")


def _print(index: Index, rank: int, hit: Hit) -> None:
    names = [name for name in (hit.title, *hit.headings) if name]
    if len(names) > 1 and names[0].casefold() == names[1].casefold():
        del names[0]
    # The sum that orders hybrid hits means nothing by itself, and is 0 for a single hit.
    shown = hit.score if hit.vector_score is None else hit.vector_score
    print(f"{rank:>3}  {shown:.4f}  {hit.document_id}{_place(index, hit)}  {' > '.join(names)}".rstrip())
    print(f"     {hit.snippet}")


def _place(index: Index, hit: Hit) -> str:
    """Returns the line of a hit in a text file, its page in a PDF, nothing for other documents."""
    form = hit.metadata.get("format")
    if form not in ("text", "markdown", "code", "pdf"):
        return ""
    document = index.get(hit.document_id)
    if document is None:  # deleted since it was found
        return ""
    if form == "pdf":
        return f", page {document.text.count(chr(12), 0, hit.start) + 1}"
    return f":{document.text.count(chr(10), 0, hit.start) + 1}"


def parse_where(filters: list[str]) -> dict[str, Any] | None:
    """Returns the filter that the words of `--where` name together, None for none.

    Raises:
        InputError: If one cannot be read.
    """
    where: dict[str, Any] = {}
    for text in filters:
        if text.lstrip().startswith("{"):
            try:
                where |= json.loads(text)
            except (ValueError, RecursionError) as error:
                raise InputError("the filter is not JSON", got=f"{text}: {error}") from error
            continue
        match = _CONDITION.fullmatch(text.strip())
        if match is None or (match.group(2) == "?" and match.group(3)):
            raise InputError(
                "the filter cannot be read", got=repr(text), expected="FIELD=VALUE, FIELD>=VALUE or 'FIELD?'"
            )
        name, sign, value = match.groups()
        _add_condition(where, name, sign, _value(value))
    return where or None


def _add_condition(where: dict[str, Any], name: str, sign: str, value: Any) -> None:
    known = where.get(name)
    if sign == "=":
        where[name] = (
            [*(known if isinstance(known, list) else [known]), value] if known is not None else value
        )
    else:
        where[name] = {
            **(known if isinstance(known, dict) else {}),
            **({"exists": True} if sign == "?" else {_RANGES[sign]: value}),
        }


def _value(text: str) -> Any:
    """Returns a number, true or false where the text is one, else the text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, (bool, int, float, str)) else text
