"""Reading a container back: Google's own wheel answers the file's probes, and the answers must be the file's.

The reader runs in a process of its own. What it says on failure is part of the error.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_embed import Embedder
from edge_embed.errors import ConversionError, MissingExtraError, ParityError
from edge_embed.model_file.probes import Probe
from edge_embed_convert.containers.names import EXTRA, LEAST_COSINE

_SHOWN = 3
"""How many lines of a reader's complaint an error shows."""


@dataclass(frozen=True)
class Reading:
    """The result of reading a container back.

    Attributes:
        reader: The package that read it, and its version.
        probes: How many probes it ran.
        left_out: How many were too long for the container.
        cosine_min: The least cosine to the model file's own vector.
    """

    reader: str
    probes: int
    left_out: int
    cosine_min: float


@dataclass(frozen=True)
class Reader:
    """A program of `readers`.

    Attributes:
        module: Its module.
        package: The import that it needs.
        distribution: The wheel that brings it.
    """

    module: str
    package: str
    distribution: str

    def require(self, purpose: str) -> None:
        """Refuses before all work if the wheel is not installed.

        Raises:
            MissingExtraError: If it is not.
        """
        if importlib.util.find_spec(self.package) is None:
            raise MissingExtraError(self.distribution, extra=EXTRA, purpose=purpose)

    @property
    def label(self) -> str:
        """The package and its version."""
        return f"{self.distribution} {importlib.metadata.version(self.distribution)}"


def read_back(
    reader: Reader, container: Path, model: Embedder, probes: Sequence[Probe], longest: int
) -> Reading:
    """Runs the probes through a container and compares.

    Args:
        reader: What reads it.
        container: The container, complete.
        model: The file that it was made from.
        probes: The file's probes.
        longest: The most tokens that the reader runs, special tokens included.

    Raises:
        ConversionError: If the reader cannot run it, or no probe is short enough.
        ParityError: If a vector is not the file's.
    """
    texts = [_whole(model, probe) for probe in probes]
    lengths = map(len, model.tokenize(texts))
    fitting = [text for text, length in zip(texts, lengths, strict=True) if length <= longest]
    if not fitting:
        raise ConversionError(
            "the container cannot be compared with the file: every probe is too long for it",
            got=f"at most {longest} tokens in the container",
            fix="choose a longer --bucket",
        )
    answers = run(reader, container, fitting)
    least = 1.0
    for text, answer in zip(fitting, answers, strict=True):
        cosine = _cosine(np.asarray(answer), model.encode(text, prompt=""))
        if not cosine >= LEAST_COSINE:
            raise ParityError(
                f"{reader.label} gives other vectors for the container than the file has; nothing was saved",
                got=f"cosine {cosine:.6f} for {text[:60]!r}",
                expected=f"at least {LEAST_COSINE}",
                fix="report it with the output of edge_embed inspect FILE",
            )
        least = min(least, cosine)
    return Reading(reader.label, len(fitting), len(texts) - len(fitting), least)


def _whole(model: Embedder, probe: Probe) -> str:
    """Returns a probe's text with its prompt, as a reader without prompts is given it."""
    return (model.prompts.get(probe.prompt_name, "") if probe.prompt_name else "") + probe.text


def _cosine(one: npt.NDArray[np.float64], other: npt.NDArray[np.float32]) -> float:
    if one.shape != other.shape:
        return float("nan")
    product = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other.astype(np.float64)) / product if product else float("nan")


def run(reader: Reader, container: Path, texts: Sequence[str]) -> list[list[float]]:
    """Returns a reader's vectors of texts.

    Raises:
        ConversionError: If it cannot run the container.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as asked:
        asked.write(json.dumps(list(texts)).encode())
        asked.seek(0)
        done = subprocess.run(
            [sys.executable, "-m", reader.module, str(container)],
            stdin=asked,
            stdout=subprocess.PIPE,
            stderr=said,
            env=environment,
            check=False,
        )
        said.seek(0)
        complaint = said.read().decode("utf-8", "replace")
    lines = done.stdout.decode("utf-8").splitlines()
    if done.returncode or len(lines) != len(texts):
        raise ConversionError(
            f"{reader.label} cannot run the container; nothing was saved",
            got=_reason(complaint) or f"exit code {done.returncode}, {len(lines)} of {len(texts)} vectors",
            expected="a vector for each probe",
            fix="choose another container; docs/containers.md says what each reader runs",
        )
    return [json.loads(line) for line in lines]


def _reason(complaint: str) -> str:
    """Returns the last lines of a reader's error output that are not part of a stack trace."""
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("@", "File ", "^", "I0000", "INFO", "***"))]
    return " / ".join(line[:200] for line in kept[-_SHOWN:])
