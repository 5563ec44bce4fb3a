"""The target `local`: this machine, one process per subject, taking turns."""

from __future__ import annotations

import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

from edge_embed.errors import InputError
from edge_embed_bench.records.machine import read_machine
from edge_embed_bench.records.record import Machine
from edge_embed_bench.targets.base import Settings
from edge_embed_bench.targets.workers import Workers
from edge_embed_bench.worker.process import Launch, here


class Here:
    """The transport of this machine."""

    emulator: str | None = None

    def prepare(self) -> None:
        """Does nothing."""

    def machine(self) -> Machine | None:
        """Describes this machine."""
        return read_machine()

    def push(self, path: Path) -> str:
        """Returns the path."""
        return str(path)

    def directory(self) -> AbstractContextManager[str]:
        """Makes a temporary directory."""
        return tempfile.TemporaryDirectory(prefix="edge-embed-bench-")

    def launch(self, threads: int) -> Launch:
        """Starts this interpreter."""
        return here(threads)

    def clean_up(self) -> None:
        """Does nothing: processes and directories end with their cells."""


class Local(Workers):
    """Measures on this machine."""

    def __init__(self, name: str = "local", settings: Settings = Settings()) -> None:  # noqa: B008 - frozen
        if name != "local":
            raise InputError("the target local takes no parameter", got=repr(name), expected="local")
        super().__init__(Here(), settings)
