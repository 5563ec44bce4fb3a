"""The program `edge_embed`: finds the command, runs it, and turns every known failure into an exit code."""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from edge_embed._version import __version__
from edge_embed.cli import exit_codes
from edge_embed.cli.commands import available_commands, find_command
from edge_embed.cli.options import choose_model
from edge_embed.cli.parser import PROGRAM, build_parser, parse, say
from edge_embed.errors import EdgeEmbedError, EdgeEmbedWarning, ParityError, SelfCheckError
from edge_embed.extras import needs_extra

DESCRIPTION = "Turn a sentence encoder into one verified LiteRT file, and run it on the device."


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code.

    Args:
        argv: The arguments after the program's name; those of the process by default.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a letter must not stop the work.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run_guarded(words)
        sys.stdout.flush()
    except BrokenPipeError:
        # Without this the interpreter would report the closed pipe again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.PIPE_CLOSED
    return code


def overview() -> str:
    """Returns the text of `edge_embed --help`."""
    commands = available_commands()
    width = max(map(len, commands))
    lines = [f"usage: {PROGRAM} COMMAND …", "", DESCRIPTION, "", "commands:"]
    lines += [f"  {verb:<{width}}  {command.summary}" for verb, command in commands.items()]
    lines += ["", "options:", "  -h, --help  show this help; after a command, the help of that command"]
    lines += ["  --version   show the version", "", exit_codes.HELP]
    return "\n".join(lines)


def _run_guarded(words: list[str]) -> int:
    try:
        with _warnings_as_lines():
            return _dispatch(words)
    except SystemExit as stop:  # argparse has printed its help or its error
        return stop.code if isinstance(stop.code, int) else exit_codes.OK
    except KeyboardInterrupt:
        say("interrupted")
        return exit_codes.INTERRUPTED
    except EdgeEmbedError as error:
        say(f"error: {error}")
        failed = isinstance(error, (ParityError, SelfCheckError))
        return exit_codes.CHECK_FAILED if failed else exit_codes.BAD_INPUT


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return exit_codes.OK if words else exit_codes.BAD_INPUT
    verb, *arguments = words
    if verb == "--version":
        print(f"{PROGRAM} {__version__}")
        return exit_codes.OK
    command = find_command(verb)
    if command is None:
        say(_unknown_command(verb))
        return exit_codes.BAD_INPUT
    args = parse(build_parser(command), arguments)
    choose_model(args)
    with needs_extra(command.extra, f"{PROGRAM} {verb}"):
        code: int = command.load().run(args)
    return code


def _unknown_command(verb: str) -> str:
    commands = available_commands()
    close = difflib.get_close_matches(verb, commands, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    return (
        f"error: unknown command {verb!r}\n  expected: {', '.join(commands)}\n"
        f"  to fix it: {hint}see {PROGRAM} --help"
    )


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Prints each of our own warnings as one line, every time; leaves the warnings of others as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", EdgeEmbedWarning)
        show_others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
            if issubclass(category, EdgeEmbedWarning):
                say(f"warning: {' '.join(str(message).split())}")
            else:
                show_others(message, category, *place, **options)

        warnings.showwarning = show
        yield
