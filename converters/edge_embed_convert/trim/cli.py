"""The command `edge_embed trim`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edge_embed.cli import options
from edge_embed.progress import step_bar

if TYPE_CHECKING:
    from edge_embed_convert.trim.trim import Trimmed

SUMMARY = "reduce a checkpoint's vocabulary to the tokens that given texts need; their vectors stay the same"
EXTRA = "convert"

_EPILOG = """\
examples:
  edge_embed trim multilingual-e5-small --texts notes.txt -o e5-notes
  edge_embed trim embeddinggemma-300m --texts en=english.txt de=german.jsonl --max-tokens 65536 -o gemma-en-de
  edge_embed trim multilingual-e5-small --texts all.jsonl --languages en,de --prompt 'query: ' -o e5-en-de"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `edge_embed trim`."""
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="sentence-transformers directory, or a hub id"
    )
    parser.add_argument(
        "--texts",
        metavar="FILE",
        nargs="+",
        required=True,
        help="texts like those that the model will read: .txt, .jsonl or .parquet; de=FILE means German "
        "texts; otherwise the field 'lang' of a record names the language",
    )
    parser.add_argument(
        "--languages",
        metavar="LANG,LANG,…",
        type=lambda text: [name for name in text.split(",") if name],
        help="use only the texts in these languages",
    )
    parser.add_argument(
        "--max-tokens",
        metavar="N",
        type=options.positive,
        help="keep at most N tokens; if the texts need fewer, further tokens of the same characters are kept "
        "(default: as many as the texts need)",
    )
    parser.add_argument(
        "--held-out",
        metavar="FILE",
        nargs="+",
        default=[],
        help="texts to measure the coverage on (default: one text of twenty, which the choice does not see)",
    )
    parser.add_argument(
        "--prompt",
        metavar="TEXT",
        action="append",
        default=[],
        help="a prompt besides those of the checkpoint, such as 'query: '; can be repeated",
    )
    parser.add_argument("--field", metavar="NAME", help="field that holds the text (default: text)")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="directory to write")
    options.add_json(parser, "print the kept tokens and the coverage as JSON")
    parser.epilog = _EPILOG


def run(args: argparse.Namespace) -> int:
    """Trims, and prints the coverage."""
    # Imported here: the help must not wait for torch.
    from dataclasses import asdict

    from edge_embed_convert.trim.trim import trim

    with step_bar("trimming") as progress:
        made = trim(
            args.checkpoint,
            args.texts,
            args.output,
            languages=args.languages,
            max_tokens=args.max_tokens,
            held_out=args.held_out,
            prompts=args.prompt,
            text_field=args.field,
            progress=progress,
        )
    if args.json:
        options.print_json(asdict(made) | {"path": str(made.path)}, indent=1)
    else:
        _print(made, args.output)
    return 0


def _print(made: Trimmed, output: str) -> None:
    texts, covered = (sum(getattr(c, key) for c in made.given.values()) for key in ("texts", "covered"))
    print(f"{made.rows:,} of {made.rows_before:,} rows stay; {covered:,} of {texts:,} texts are covered")
    print(f"{'language':10}{'sample':>8}{'texts covered':>16}{'tokens that stay':>18}")
    for language, found in made.sample.items():
        print(f"{language:10}{found.texts:8,}{found.share:16.1%}{found.token_share:18.2%}")
    print(
        f"proved: {made.proved:,} covered texts have the same tokens, {made.embedded} of them were embedded "
        "with the same vector\n"
        f"saved {output}: weights of {made.bytes / 1e6:.1f} MB (before: {made.bytes_before / 1e6:.1f} MB)"
    )
