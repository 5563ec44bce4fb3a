"""Writes `docs/cli.md` from the help of every command: `python docs/generate_cli.py`.

argparse lays help out a little differently from one Python to the next. The page is written, and compared by
the tests, on one of them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from unittest import mock

from edge_embed.cli.commands import available_commands
from edge_embed.cli.parser import PROGRAM, build_parser
from edge_embed.cli.program import overview

PAGE = Path(__file__).with_name("cli.md")

PYTHON = (3, 11)
"""The Python whose argparse lays out the page."""

WIDTH = "100"

HEAD = """\
# The command line

<!-- Written by docs/generate_cli.py from the commands' own help. Do not edit. -->

Every command reads and writes UTF-8. Results go to stdout; progress, warnings and errors go to stderr.
A file that a command writes is either complete or absent.
"""


def render() -> str:
    """Returns the page, the same in every terminal."""
    # argparse takes its width from COLUMNS, and newer Pythons may add colours.
    with mock.patch.dict(os.environ, {"COLUMNS": WIDTH, "NO_COLOR": "1", "PYTHON_COLORS": "0"}):
        parts = [HEAD, _block(overview())]
        for verb, command in available_commands().items():
            parts += [f"## {PROGRAM} {verb}\n", f"{command.summary[0].upper()}{command.summary[1:]}.\n"]
            parts.append(_block(build_parser(command).format_help()))
    return "\n".join(parts)


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```\n"


if __name__ == "__main__":
    if sys.version_info[:2] != PYTHON:
        sys.exit(f"run this with Python {'.'.join(map(str, PYTHON))}")
    PAGE.write_text(render(), encoding="utf-8")
