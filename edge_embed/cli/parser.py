"""The argument parser of a command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from edge_embed.cli.commands import Command
from edge_embed.cli.exit_codes import BAD_INPUT

PROGRAM = "edge_embed"

_MARK = "\0"
"""Put before each word that follows `--`. No word of a command line can contain it."""


def build_parser(command: Command) -> argparse.ArgumentParser:
    """Returns the parser of a command. Imports the command's module."""
    parser = _Parser(
        prog=f"{PROGRAM} {command.verb}",
        description=f"{command.summary[0].upper()}{command.summary[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.load().configure(parser)
    return parser


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Parses a command line where texts may follow options: `MODEL --query TEXT`, or `-- -TEXT`.

    argparse parses such a line in two passes and loses `--` after the first, so that a text which begins
    with a dash would become an option. The words after `--` are therefore marked while it works.
    """
    at = words.index("--") if "--" in words else len(words)
    args = parser.parse_intermixed_args([*words[:at], *(_MARK + word for word in words[at + 1 :])])
    for name, value in vars(args).items():
        unmarked = [_unmark(item) for item in value] if isinstance(value, list) else _unmark(value)
        setattr(args, name, unmarked)
    return args


def say(message: str) -> None:
    """Prints a line on stderr, after the program's name."""
    try:
        print(f"{PROGRAM}: {message}", file=sys.stderr)
    except (OSError, AttributeError):  # stderr is closed, or the process has none
        return


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        say(f"error: {message}\n  to fix it: see {self.prog} --help")
        raise SystemExit(BAD_INPUT)


def _unmark(value: Any) -> Any:
    return type(value)(str(value).removeprefix(_MARK)) if isinstance(value, (str, Path)) else value
