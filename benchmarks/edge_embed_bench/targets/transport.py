"""How worker processes start on a target and how files get there. Targets with Python differ only in this."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from edge_embed_bench.records.record import Machine
from edge_embed_bench.worker.process import Launch


class Transport(Protocol):
    """The steps around a measurement: prepare, push, run, clean up. The record comes back through the pipe.

    Attributes:
        emulator: The emulator, None if the target is a real machine.
    """

    emulator: str | None

    def prepare(self) -> None:
        """Makes the target ready to start processes.

        Raises:
            EdgeEmbedError: If it cannot be used.
        """
        ...

    def machine(self) -> Machine | None:
        """Describes the target. None means that a worker process there describes it."""
        ...

    def push(self, path: Path) -> str:
        """Puts a file or a directory on the target, once, and returns its path there.

        Raises:
            TargetError: If it cannot be copied completely.
        """
        ...

    def directory(self) -> AbstractContextManager[str]:
        """Makes an empty directory on the target and removes it at the end."""
        ...

    def launch(self, threads: int) -> Launch:
        """Returns how to start a worker process there.

        Raises:
            TargetError: If the target is gone.
        """
        ...

    def clean_up(self) -> None:
        """Ends the processes and removes the files of this run, also after an error. Raises nothing."""
        ...
