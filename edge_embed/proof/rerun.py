"""Running a file's probes again: what conversion, `edge_embed verify` and a device all do the same way."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edge_embed.embedder import Embedder
from edge_embed.errors import TruncationWarning
from edge_embed.model_file.manifest import Parity, Vector
from edge_embed.model_file.probes import Probe
from edge_embed.proof.parity import compare


def rerun_probes(
    path: str | os.PathLike[str],
    probes: Sequence[Probe],
    *,
    thresholds: Mapping[str, float],
    k: int,
    num_threads: int | None = None,
    advance: Callable[[int], object] = lambda _: None,
    accelerator: str = "cpu",
) -> Parity:
    """Embeds every probe as a user would and compares with the vectors of the source.

    Weights are packed anew and in memory: what is judged is the file, not a cache of it.

    Args:
        path: The model file.
        probes: Texts with the source's ids and vectors.
        thresholds: What is demanded, by metric.
        k: How many nearest neighbours are compared.
        num_threads: For the runtime.
        advance: Called with 1 after each probe.
        accelerator: For the runtime.
    """
    answers = []
    with Rerun(path, num_threads, accelerator) as rerun:
        for probe in probes:
            answers.append(rerun.answer(probe))
            advance(1)
    return judge(answers, probes, thresholds=thresholds, k=k)


def judge(
    answers: Sequence[tuple[list[int], npt.ArrayLike]],
    probes: Sequence[Probe],
    *,
    thresholds: Mapping[str, float],
    k: int,
) -> Parity:
    """Compares answers, wherever they were given, with what the source answered.

    Args:
        answers: Ids and vector for each probe.
        probes: The probes, in the same order.
        thresholds: What is demanded, by metric.
        k: How many nearest neighbours are compared.
    """
    mismatches = sum(tokens != probe.tokens for (tokens, _), probe in zip(answers, probes, strict=True))
    return compare(
        np.stack([np.asarray(vector, np.float32) for _, vector in answers]),
        np.stack([probe.vector for probe in probes]),
        [probe.length for probe in probes],
        token_mismatches=mismatches,
        thresholds=thresholds,
        k=k,
    )


class Rerun:
    """A file that answers its probes as a user would ask them.

    Args:
        path: The model file.
        num_threads: For the runtime.
        accelerator: For the runtime.
    """

    def __init__(
        self, path: str | os.PathLike[str], num_threads: int | None, accelerator: str = "cpu"
    ) -> None:
        self._embedder = Embedder(
            path, self_check=False, weight_cache="memory", num_threads=num_threads, accelerator=accelerator
        )

    def answer(self, probe: Probe) -> tuple[list[int], Vector]:
        """Returns the token ids that a probe is run with, and its vector."""
        embedder = self._embedder
        prompt = embedder.prompts[probe.prompt_name] if probe.prompt_name is not None else ""
        with warnings.catch_warnings():
            # Probes beyond a small maximum are cut on both sides, which the user knows already.
            warnings.simplefilter("ignore", TruncationWarning)
            vector: Vector = embedder.encode(probe.text, prompt=prompt)
        return fed(embedder, prompt + probe.text), vector

    def close(self) -> None:
        """Frees the graph."""
        self._embedder.close()

    def __enter__(self) -> Rerun:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def fed(embedder: Embedder, text: str) -> list[int]:
    """Returns the token ids that the runtime runs for a text, cut to the maximum as `truncate` does."""
    ids = embedder.tokenize([text])[0]
    limit, suffix = embedder.max_seq_length, embedder.manifest.tokenizer.suffix_ids
    return ids if len(ids) <= limit else ids[: limit - len(suffix)] + suffix
