"""Conversion in a process of its own, whose time and memory are measured."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from edge_embed_bench.errors import MeasurementError


@dataclass(frozen=True)
class Cost:
    """What a conversion took: seconds, and its highest resident memory in bytes."""

    seconds: float
    peak_bytes: int


def convert(source: Path, output: Path, *options: str) -> Cost:
    """Runs `edge_embed convert` and returns what it took.

    Args:
        source: The checkpoint.
        output: The file to write.
        *options: Options of the command.

    Raises:
        MeasurementError: If it fails. Its own message is on stderr.
    """
    command = [sys.executable, "-m", "edge_embed", "convert", str(source), "--output", str(output), *options]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise MeasurementError(
            f"the conversion of {source.name} failed", got=f"exit code {process.returncode}"
        )
    return Cost(time.perf_counter() - started, usage.ru_maxrss * 1024)
