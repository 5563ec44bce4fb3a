"""Verify: the file, run by the real runtime, against its source in float32. Saving waits for the answer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from typing_extensions import Unpack

from edge_embed import Embedder
from edge_embed._manifest import Manifest, Parity, encode_vector
from edge_embed._modelfile import ModelFile, Probe
from edge_embed._parity import compare
from edge_embed._progress import Step, Ticker
from edge_embed.errors import TruncationWarning
from edge_embed_convert.checkpoint import CheckpointOptions, load
from edge_embed_convert.probes import ProbeText
from edge_embed_convert.reference import Reference

NEIGHBOURS = 5
"""How many nearest neighbours of each probe are compared."""

Progress = Callable[[str], None]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Expected:
    """What the source says of the probes: its ids and its vectors, ``(n, dimension)``."""

    probes: Sequence[ProbeText]
    tokens: list[list[int]]
    vectors: Vectors


def expect(
    reference: Reference, probes: Sequence[ProbeText], prompts: dict[str, str], progress: Progress
) -> Expected:
    """Runs the source over the probes, one at a time and without padding."""
    tokens, vectors = [], []
    for probe in probes:
        progress("source model in float32")
        prompt = prompts[probe.prompt_name] if probe.prompt_name else ""
        ids = reference.tokenize(prompt + probe.text)
        tokens.append(ids)
        vectors.append(reference.embed_tokens(ids))
    return Expected(probes, tokens, np.stack(vectors))


def measure(
    path: Path,
    expected: Expected,
    thresholds: Mapping[str, float],
    num_threads: int | None,
    progress: Progress,
) -> Parity:
    """Runs a model file over the probes and compares.

    Args:
        path: A model file, complete but for its own parity report.
        expected: The source's answers.
        thresholds: What the gate demands, by metric.
        num_threads: For the runtime.
        progress: Called once per probe.
    """
    with (
        warnings.catch_warnings(),
        Embedder(path, self_check=False, weight_cache="memory", num_threads=num_threads) as model,
    ):
        # Probes beyond a small maximum are cut on both sides, which is no news to the user.
        warnings.simplefilter("ignore", TruncationWarning)
        vectors, mismatches = [], 0
        for probe, ids in zip(expected.probes, expected.tokens, strict=True):
            progress("converted file in its runtime")
            prompt = model.prompts[probe.prompt_name] if probe.prompt_name else ""
            mismatches += _tokens(model, prompt + probe.text) != ids
            vectors.append(model.encode(probe.text, prompt=prompt))
        buckets = model.manifest.buckets
    lengths = [bucket_of(len(ids), buckets) for ids in expected.tokens]
    return compare(
        np.stack(vectors), expected.vectors, lengths,
        token_mismatches=mismatches, thresholds=thresholds, k=NEIGHBOURS,
    )  # fmt: skip


def verify_file(
    path: Path,
    source: str,
    *,
    num_threads: int | None = None,
    progress: Step = lambda step, done, total: None,
    **options: Unpack[CheckpointOptions],
) -> tuple[Parity, bool]:
    """Runs the gate again on a saved file.

    Args:
        path: The model file.
        source: The checkpoint it was made from, a directory or a hub id.
        num_threads: Threads for the runtime.
        progress: As for `convert`.
        **options: See `checkpoint.CheckpointOptions`.

    Returns:
        The report, judged by the thresholds in the file's own manifest, and whether the checkpoint's
        weights are the ones that the file was made from.
    """
    checkpoint = load(source, **options)
    file = ModelFile.open(path)
    probes = [ProbeText(probe.text, probe.prompt_name) for probe in file.probes()]
    ticker = Ticker(progress, 1 + 2 * len(probes))
    ticker("loading the source model")
    expected = expect(Reference(checkpoint), probes, checkpoint.prompts, ticker)
    parity = measure(path, expected, file.manifest.parity.thresholds, num_threads, ticker)
    return parity, checkpoint.weights_sha256() == file.manifest.source.sha256


def stored_probes(expected: Expected, manifest: Manifest) -> list[Probe]:
    """Returns the probes as they are kept in the file, so that a device can verify without the source."""
    return [
        Probe(
            text=probe.text,
            prompt_name=probe.prompt_name,
            tokens=ids,
            length=bucket_of(len(ids), manifest.buckets),
            embedding=encode_vector(vector),
        )
        for probe, ids, vector in zip(expected.probes, expected.tokens, expected.vectors, strict=True)
    ]


def bucket_of(tokens: int, buckets: Sequence[int]) -> int:
    """Returns the smallest bucket that holds `tokens` tokens."""
    return next(length for length in buckets if length >= tokens)


def _tokens(model: Embedder, text: str) -> list[int]:
    """Returns what the runtime feeds for a text: its ids, cut to the maximum as truncation cuts them."""
    ids = model.tokenize([text])[0]
    limit, suffix = model.max_seq_length, model.manifest.tokenizer.suffix_ids
    return ids if len(ids) <= limit else ids[: limit - len(suffix)] + suffix
