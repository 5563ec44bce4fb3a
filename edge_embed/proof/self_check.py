"""The self-check: a loaded graph must reproduce the probe that its file carries."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from edge_embed.errors import SelfCheckError
from edge_embed.model_file.manifest import Manifest, Vector

FLOAT16_COSINE = 0.999
"""Least cosine of a graph in float16 beside float32: EmbeddingGemma's full size reached 0.99976, emulated."""


class Runner(Protocol):
    """What can run the graph: `edge_embed.engine.base.Engine`."""

    def run(self, length: int, ids: list[int]) -> Vector:
        """Returns the embedding of `ids` in the bucket `length`."""
        ...


def run_probe(engine: Runner, manifest: Manifest) -> Vector:
    """Returns the graph's exact answer to the probe, run in the smallest bucket that holds it."""
    tokens = manifest.self_check.tokens
    return engine.run(bucket_for(len(tokens), manifest), tokens)


def bucket_for(tokens: int, manifest: Manifest) -> int:
    """Returns the smallest bucket that holds `tokens` tokens."""
    return next(length for length in manifest.buckets if length >= tokens)


def compare(vector: Vector, manifest: Manifest, backend: str, least: float | None = None) -> None:
    """Compares an answer with the probe's expected vector.

    Args:
        vector: The answer.
        manifest: Whose probe it is.
        backend: Who answered, for the message.
        least: The least cosine; by default the manifest's bound.

    Raises:
        SelfCheckError: If their cosine is below it.
    """
    bound = manifest.self_check.min_cosine if least is None else least
    expected = manifest.self_check.vector
    norms = float(np.linalg.norm(vector)) * float(np.linalg.norm(expected))
    cosine = float(np.dot(vector, expected)) / norms if norms > 0 else 0.0
    # Written so that a cosine or a bound that is not a number fails.
    if not cosine >= bound:
        raise SelfCheckError(
            f"{manifest.name}: the backend does not reproduce the file's own probe",
            got=f"cosine {cosine:.6f} from {backend}",
            expected=f"at least {bound:g}",
            fix="download the file again; if the error stays, this machine computes wrong vectors: report it",
        )


def check(engine: Runner, manifest: Manifest, backend: str = "LiteRT on the CPU") -> Vector:
    """Runs the probe and compares; returns its exact answer.

    Raises:
        SelfCheckError: If the answer is not the expected one.
        RuntimeFailure: If the graph cannot be run, or does not return a vector.
    """
    vector = run_probe(engine, manifest)
    compare(vector, manifest, backend)
    return vector


def check_every_bucket(engine: Runner, manifest: Manifest, backend: str, float16: bool) -> None:
    """Runs the probe in every bucket that holds it, each being a graph of its own to an accelerator.

    Args:
        engine: What runs it.
        manifest: Whose probe it is.
        backend: Who answers, for the message.
        float16: Whether it may compute in float16.

    Raises:
        SelfCheckError: If an answer is not the expected one.
        RuntimeFailure: If the graph cannot be run, or does not return a vector.
    """
    tokens = manifest.self_check.tokens
    for length in manifest.buckets:
        if length >= len(tokens):
            answer = engine.run(length, tokens)
            compare(answer, manifest, f"{backend}, bucket {length}", accelerator_bound(manifest, float16))


def accelerator_bound(manifest: Manifest, float16: bool) -> float:
    """Returns the least cosine between an accelerator's answer and the probe's, which the CPU gave."""
    return min(manifest.self_check.min_cosine, FLOAT16_COSINE if float16 else 1.0)
