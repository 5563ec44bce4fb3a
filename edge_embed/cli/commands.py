"""Which commands there are, and how a package adds one.

A command is a module that defines

- `SUMMARY`, a string: what the command does, in one line of help;
- `EXTRA`, a string, only if the command needs an extra of this project;
- `configure(parser)`, which adds the options to an `argparse.ArgumentParser`;
- `run(args) -> int`, which does the work and returns the exit code.

Each module of the folder `edge_embed/cli` that has a `SUMMARY` is a command, named like the module. Any
other package adds a command with an entry point of the group `edge_embed.commands`: its name is the verb,
its value is the module.

`SUMMARY` and `EXTRA` are read from the source of the module, so that `edge_embed --help` imports no
command. Both must therefore be plain strings.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from edge_embed.errors import EdgeEmbedError
from edge_embed.extras import needs_extra

GROUP = "edge_embed.commands"
"""The group of entry points that add commands."""

_OWN = __name__.rpartition(".")[0]


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        verb: What the user types.
        module: The module that does the work.
        summary: One line of help.
        extra: The extra that its work needs, if any.
    """

    verb: str
    module: str
    summary: str
    extra: str | None = None

    def load(self) -> Any:
        """Imports the module and returns it.

        Raises:
            MissingExtraError: If the package of the command, or one that it imports, is not installed.
        """
        with needs_extra(self.extra, f"edge_embed {self.verb}"):
            return importlib.import_module(self.module)


def available_commands() -> dict[str, Command]:
    """Returns all installed commands by verb, in alphabetical order. Imports none of them."""
    places = {point.name: point.value for point in importlib.metadata.entry_points(group=GROUP)}
    places |= {name: f"{_OWN}.{name}" for name in _own_modules()}
    found = (_read_command(verb, module) for verb, module in sorted(places.items()))
    return {command.verb: command for command in found if command is not None}


def find_command(verb: str) -> Command | None:
    """Returns the command with this verb, or None. Reads only that command."""
    if verb in _own_modules():
        return _read_command(verb, f"{_OWN}.{verb}")
    points = importlib.metadata.entry_points(group=GROUP, name=verb)
    return next((command for p in points if (command := _read_command(verb, p.value))), None)


def load_entry_point(group: str, name: str) -> Any:
    """Imports what a sibling package offers under a name: a function that a command of this package calls.

    Args:
        group: The group of entry points.
        name: The name in the group.

    Raises:
        EdgeEmbedError: If no installed package offers it.
    """
    for point in importlib.metadata.entry_points(group=group, name=name):
        return point.load()
    raise EdgeEmbedError(
        f"no installed package offers {name!r}",
        expected=f"an entry point of the group {group}",
        fix="install edge-embed with pip; a checkout that is only on the path has no entry points",
    )


def _own_modules() -> set[str]:
    return {module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])}


def _read_command(verb: str, module: str) -> Command | None:
    """Returns the command that a module declares; None if there is no such module or it is no command."""
    spec = _find_without_import(module)
    if spec is None:
        return None
    declared = _declarations(spec)
    summary = declared.get("SUMMARY")
    return None if summary is None else Command(verb, module, summary, declared.get("EXTRA"))


def _find_without_import(module: str) -> ModuleSpec | None:
    """Finds a module. `importlib.util.find_spec` would import the packages around it."""
    name, spec = "", None
    path: Iterable[str] | None = None
    for part in module.split("."):
        name = f"{name}.{part}".lstrip(".")
        spec = PathFinder.find_spec(name, None if path is None else list(path))
        if spec is None:
            return None
        path = spec.submodule_search_locations or []
    return spec


def _declarations(spec: ModuleSpec) -> dict[str, str]:
    """Returns the strings that a module assigns to single names at its top level."""
    source = getattr(spec.loader, "get_source", lambda _: None)(spec.name)
    if source is None:  # installed without its source
        module = importlib.import_module(spec.name)
        return {name: value for name, value in vars(module).items() if isinstance(value, str)}
    found = {}
    for node in ast.parse(source).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(value))):
                found[name] = value
    return found
