"""Options that several commands share, each declared once."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_embed.cli.parser import say
from edge_embed.default_model import NAME, PATH
from edge_embed.names import ACCELERATORS, OVERFLOWS, TFLITE_IDENTIFIER

if TYPE_CHECKING:
    from edge_embed import Embedder

MODEL_THEN = "words_after_model"
"""Where the parser of a command keeps the name of the list that follows MODEL."""


def add_model(
    parser: argparse.ArgumentParser, following: str | None = None, *, chosen_later: bool = False
) -> None:
    """Adds the model file, the first argument of every command that reads one. It may be left out.

    Args:
        parser: Of the command.
        following: The list of words that come after MODEL, if there may be any.
        chosen_later: Leaves `args.model` None where MODEL is left out; the command then chooses.
    """
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help=f"a file that `edge_embed convert` wrote (default: {NAME}, which comes with the package)",
    )
    parser.set_defaults(**{MODEL_THEN: (following, chosen_later)})


def choose_model(args: argparse.Namespace) -> None:
    """Sets `args.model` to a path: the word of the command line if it is a model, else the package's model.

    A first word that is not a model file is the first of the words that follow.
    """
    if not hasattr(args, MODEL_THEN):
        return  # the command reads no model
    following, chosen_later = vars(args).pop(MODEL_THEN)
    word = args.model
    if word is not None and (following is None or _is_model(word)):
        args.model = Path(word)
        return
    if word is not None:
        getattr(args, following).insert(0, word)
    args.model = None if chosen_later else default_model()


def default_model() -> Path:
    """Returns the model that comes with the package, and names it on stderr.

    So that nobody mistakes its vectors for those of a file whose name was mistyped.
    """
    say(f"model: {NAME}, which comes with the package")
    return PATH


def _is_model(word: str) -> bool:
    """Tells whether a word names a model file: by its ending, or by what is in the file."""
    if word.lower().endswith(".tflite"):
        return True
    try:
        with open(word, "rb") as file:
            return file.read(8)[4:] == TFLITE_IDENTIFIER
    except (OSError, ValueError):
        return False


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """Adds what shapes the vectors."""
    meanings = "; ".join(f"{policy}: {meaning}" for policy, meaning in OVERFLOWS.items())
    group = parser.add_argument_group("vectors")
    group.add_argument(
        "--truncate-dim", metavar="N", type=int, help="keep the first N numbers of each vector"
    )
    group.add_argument(
        "--overflow",
        choices=OVERFLOWS,
        default="truncate",
        help=f"what to do with a text that is too long; {meanings} (default: truncate)",
    )
    add_threads(group)
    add_accelerator(group)


def add_threads(parser: argparse._ActionsContainer) -> None:
    """Adds the number of threads."""
    parser.add_argument(
        "--threads", metavar="N", type=positive, help="threads (default: usable cores, at most 4)"
    )


def add_accelerator(parser: argparse._ActionsContainer) -> None:
    """Adds what runs the graph."""
    parser.add_argument(
        "--accelerator",
        choices=ACCELERATORS,
        default="cpu",
        help="what runs the graph; auto: the first of npu, gpu and cpu that passes the self-check "
        "(default: cpu)",
    )


def add_target(parser: argparse._ActionsContainer) -> None:
    """Adds what targets other than this machine may need."""
    parser.add_argument(
        "--prepare-target",
        action="store_true",
        help="let the target first download what it needs; without this option nothing is downloaded",
    )
    parser.add_argument(
        "--target-python",
        metavar="PATH",
        help="ssh: use this Python on the target, which has the runtime's dependencies; nothing is installed",
    )


def add_number(
    parser: argparse._ActionsContainer,
    name: str,
    default: int,
    what: str,
    *,
    metavar: str = "N",
    kind: Callable[[str], int] | None = None,
) -> None:
    """Adds an option that takes a whole number.

    Args:
        parser: Of the command.
        name: The option.
        default: Its default, which the help states.
        what: The help.
        metavar: What the help calls the number.
        kind: Parses the number; by default `positive`.
    """
    parser.add_argument(
        name, metavar=metavar, type=kind or positive, default=default, help=f"{what} (default: {default})"
    )


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds `--json`."""
    parser.add_argument("--json", action="store_true", help=what)


def add_fields(parser: argparse._ActionsContainer, titles: str | None = None) -> None:
    """Adds where the texts are within JSONL and Parquet records; `titles` is the default field of titles."""
    default = f" (default: {titles})" if titles else ""
    parser.add_argument("--field", metavar="NAME", help="field that holds the text (default: text)")
    parser.add_argument(
        "--titles-field", metavar="NAME", help=f"field that holds the documents' titles{default}"
    )


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds what a checkpoint may leave open; converting it and verifying against it need the same answers."""
    group = parser.add_argument_group("about the checkpoint")
    group.add_argument("--revision", metavar="NAME", help="hub revision: a branch, tag or commit")
    group.add_argument(
        "--pooling",
        metavar="NAME",
        help="how a plain transformers model pools its tokens: mean, cls, lasttoken, …",
    )
    group.add_argument("--max-tokens", type=positive, metavar="N", help="read at most N tokens of a text")
    group.add_argument(
        "--sliding-window",
        type=positive,
        metavar="N",
        help="replace the window that the checkpoint states (EmbeddingGemma: 512)",
    )
    group.add_argument(
        "--without-dense", action="store_true", help="accept an EmbeddingGemma without Dense modules"
    )


def open_embedder(args: argparse.Namespace) -> Embedder:
    """Returns the model that `args` names, with the options of `add_runtime`."""
    # Imported here: the help must not wait for the runtime.
    from edge_embed import Embedder

    return Embedder(
        args.model,
        truncate_dim=args.truncate_dim,
        num_threads=args.threads,
        overflow=args.overflow,
        accelerator=args.accelerator,
    )


def positive(text: str) -> int:
    """Parses an integer of at least 1, for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return number


def positive_number(text: str) -> float:
    """Parses a number above 0, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


def not_negative(text: str) -> int:
    """Parses an integer of at least 0, for argparse."""
    return 0 if text.strip() == "0" else positive(text)


def print_json(value: Any, indent: int | None = None) -> None:
    """Prints JSON, with letters as they are where the stream can carry every letter."""
    readable = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    # Dates and bytes, which Parquet has and JSON has not, are shown as Python writes them.
    print(json.dumps(value, ensure_ascii=not readable, indent=indent, default=str))
