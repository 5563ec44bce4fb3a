"""The command line: `edge_embed <verb>`.

A command is a module with `configure(parser)` and `run(args) -> int`. The table names it as a string and
it is imported when its verb is used, so that no verb pays for what another one needs.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import importlib.machinery
import importlib.util
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from edge_embed._version import __version__
from edge_embed.errors import (
    AcceleratorWarning,
    EdgeEmbedError,
    MissingExtraError,
    PaddingWarning,
    ParityError,
    SelfCheckError,
    TruncationWarning,
    WeightCacheWarning,
)

OK, CHECK_FAILED, BAD_INPUT, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141

PROGRAM = "edge_embed"

_SHIELD = "\0"
"""No word of a command line can hold it."""

DESCRIPTION = "Turn a sentence encoder into one verified LiteRT file, and run it on the device."
EXIT_CODES = """\
exit codes:
  0    done
  1    a check failed: the file does not agree with its source or with itself
  2    bad usage, or input that cannot be used
  130  interrupted
  141  whoever read our output stopped reading"""


@dataclass(frozen=True)
class Command:
    """A verb: the module behind it, one line of help, and the extra that its work needs."""

    module: str
    summary: str
    extra: str | None = None
    optional: bool = False


COMMANDS = {
    "convert": Command(
        "edge_embed_convert.cli", "turn a PyTorch checkpoint into one verified model file", extra="convert"
    ),
    "inspect": Command("edge_embed.cli.inspect", "show what a model file holds"),
    "embed": Command("edge_embed.cli.embed", "turn texts into vectors"),
    "similarity": Command("edge_embed.cli.similarity", "rank documents by similarity to queries"),
    "verify": Command("edge_embed.cli.verify", "check a model file against what its source answered"),
    "eval": Command(
        "edge_embed_bench.quality.cli", "score models on a task, beside their fp32 source", extra="quality"
    ),
    "bench": Command(
        "edge_embed_bench.cli", "measure latency, memory and quality", extra="bench", optional=True
    ),
}

VERIFY_AGAINST_SOURCE = "edge_embed_convert.cli:verify_against_source"
VERIFY_ON_TARGET, TARGET_SETTINGS = (
    "edge_embed_bench.targets.verify:probes_on",
    "edge_embed_bench.target:Settings",
)


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
        code = _guarded(words)
        sys.stdout.flush()
    except BrokenPipeError:
        # Otherwise the interpreter complains once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    return code


def available() -> dict[str, Command]:
    """Returns the commands that are installed, by verb. Imports none of them."""
    return {
        verb: command for verb, command in COMMANDS.items() if not command.optional or _found(command.module)
    }


def build_parser(verb: str) -> argparse.ArgumentParser:
    """Returns the parser of a verb."""
    command = COMMANDS[verb]
    parser = Parser(
        prog=f"{PROGRAM} {verb}",
        description=f"{command.summary[0].upper()}{command.summary[1:]}.",
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    load(command.module).configure(parser)
    positionals = [a for a in parser._actions if not a.option_strings]
    words = [_spell_positional(action) for action in positionals]
    # Stated, because argparse wraps its own differently from one Python to the next.
    parser.usage = " ".join([parser.prog, *words, "[options]"])
    return parser


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Parses words where texts may follow options, `MODEL --query TEXT`, and anything may follow `--`."""
    at = words.index("--") if "--" in words else len(words)
    # argparse parses such lines in two passes and forgets `--` on the way: its words go in under a shield.
    args = parser.parse_intermixed_args([*words[:at], *(_SHIELD + word for word in words[at + 1 :])])
    for name, value in vars(args).items():
        setattr(
            args, name, [_unshield(item) for item in value] if isinstance(value, list) else _unshield(value)
        )
    return args


def _unshield(value: Any) -> Any:
    return type(value)(str(value).removeprefix(_SHIELD)) if isinstance(value, (str, Path)) else value


def overview() -> str:
    """Returns the text of `edge_embed --help`."""
    commands = available()
    width = max(map(len, commands))
    lines = [f"usage: {PROGRAM} COMMAND …", "", DESCRIPTION, "", "commands:"]
    lines += [f"  {verb:<{width}}  {command.summary}" for verb, command in commands.items()]
    lines += ["", "options:", "  -h, --help  show this help, or that of a command after its name"]
    lines += ["  --version   show the version", "", EXIT_CODES]
    return "\n".join(lines)


def load(reference: str) -> Any:
    """Imports `module` or `module:name`, and says which extra is missing where that fails.

    Raises:
        MissingExtraError: If a package that the command needs is not installed.
    """
    module, _, name = reference.partition(":")
    extra = next((c.extra for c in COMMANDS.values() if c.module == module), None)
    with needs_extra(extra, module):
        loaded = importlib.import_module(module)
    return getattr(loaded, name) if name else loaded


@contextlib.contextmanager
def needs_extra(extra: str | None, purpose: str) -> Iterator[None]:
    """Turns an import that fails in the block for want of an extra into the error that names the extra.

    Args:
        extra: The extra; None lets the import fail as it is.
        purpose: What needed it.

    Raises:
        MissingExtraError: If a package of the extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        siblings = {c.module.partition(".")[0] for c in COMMANDS.values()}
        # A module missing within a package of ours is a bug, and keeps its traceback.
        ours = package == PROGRAM or (package in siblings and error.name != package)
        if extra is None or not package or ours:
            raise
        raise MissingExtraError(package, extra=extra, purpose=purpose) from error


class Parser(argparse.ArgumentParser):
    """argparse with our way of saying what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Prints the message and where to find help, and leaves with code 2."""
        _say(f"error: {message}\n  to fix it: see {self.prog} --help")
        raise SystemExit(BAD_INPUT)


class Formatter(argparse.RawDescriptionHelpFormatter):
    """argparse's layout, the same on every Python: `-o, --output FILE` as Python 3.13 has it."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, max_help_position=28, **options)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return _spell_name(action)
        names = ", ".join(action.option_strings)
        return names if action.nargs == 0 else f"{names} {_spell_name(action)}"


def _spell_name(action: argparse.Action) -> str:
    if action.metavar is None and action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    name = action.metavar or (action.dest if not action.option_strings else action.dest.upper())
    return name if isinstance(name, str) else " ".join(name)


def _spell_positional(action: argparse.Action) -> str:
    name = _spell_name(action)
    return {"?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} [{name} ...]"}.get(str(action.nargs), name)


def _guarded(words: list[str]) -> int:
    """Runs the command line and turns every failure we know into its exit code."""
    try:
        with _our_warnings():
            return _dispatch(words)
    except SystemExit as stop:  # argparse has printed its help or its error
        return stop.code if isinstance(stop.code, int) else OK
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except EdgeEmbedError as error:
        _say(f"error: {error}")
        return CHECK_FAILED if isinstance(error, (ParityError, SelfCheckError)) else BAD_INPUT


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return OK if words else BAD_INPUT
    verb, *rest = words
    if verb == "--version":
        print(f"{PROGRAM} {__version__}")
        return OK
    commands = available()
    if verb not in commands:
        close = difflib.get_close_matches(verb, commands, 1)
        hint = f"did you mean {close[0]}? " if close else ""
        _say(
            f"error: unknown command {verb!r}\n  expected: {', '.join(commands)}\n"
            f"  to fix it: {hint}see {PROGRAM} --help"
        )
        return BAD_INPUT
    args = parse(build_parser(verb), rest)
    with needs_extra(commands[verb].extra, f"{PROGRAM} {verb}"):
        code: int = load(commands[verb].module).run(args)
    return code


def _found(module: str) -> bool:
    """Tells whether a module of a sibling exists, importing neither it nor its package."""
    package = importlib.util.find_spec(module.partition(".")[0])
    if package is None or package.submodule_search_locations is None:
        return False
    return importlib.machinery.PathFinder.find_spec(module, package.submodule_search_locations) is not None


@contextlib.contextmanager
def _our_warnings() -> Iterator[None]:
    """Shows our own warnings as one line each, every time; leaves those of others as they are."""
    ours = (TruncationWarning, PaddingWarning, WeightCacheWarning, AcceleratorWarning)
    with warnings.catch_warnings():
        for category in ours:
            warnings.simplefilter("always", category)
        theirs = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **rest: Any) -> None:
            if issubclass(category, ours):
                _say(f"warning: {' '.join(str(message).split())}")
            else:
                theirs(message, category, *place, **rest)

        warnings.showwarning = show
        yield


def _say(message: str) -> None:
    # Without a stderr there is nobody to tell.
    with contextlib.suppress(OSError, AttributeError):
        print(f"{PROGRAM}: {message}", file=sys.stderr)
