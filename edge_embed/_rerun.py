"""Running a file's probes again: what conversion, `edge_embed verify` and a device all do the same way."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edge_embed._manifest import Parity, Vector
from edge_embed._modelfile import Probe
from edge_embed._parity import compare
from edge_embed.embedder import Embedder
from edge_embed.errors import TruncationWarning


def rerun_probes(
    path: str | os.PathLike[str],
    probes: Sequence[Probe],
    *,
    thresholds: Mapping[str, float],
    k: int,
    num_threads: int | None = None,
    advance: Callable[[int], object] = lambda _: None,
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
    """
    vectors, mismatches = [], 0
    with (
        Embedder(path, self_check=False, weight_cache="memory", num_threads=num_threads) as embedder,
        warnings.catch_warnings(),
    ):
        # Probes beyond a small maximum are cut on both sides, which is no news to the user.
        warnings.simplefilter("ignore", TruncationWarning)
        for probe in probes:
            prompt = embedder.prompts[probe.prompt_name] if probe.prompt_name is not None else ""
            mismatches += _fed(embedder, prompt + probe.text) != probe.tokens
            vector: Vector = embedder.encode(probe.text, prompt=prompt)
            vectors.append(vector)
            advance(1)
    return compare(
        np.stack(vectors),
        np.stack([probe.vector for probe in probes]),
        [probe.length for probe in probes],
        token_mismatches=mismatches,
        thresholds=thresholds,
        k=k,
    )


def _fed(embedder: Embedder, text: str) -> list[int]:
    """Returns the ids that the runtime feeds for a text: cut to the maximum as truncation cuts them."""
    ids = embedder.tokenize([text])[0]
    limit, suffix = embedder.max_seq_length, embedder.manifest.tokenizer.suffix_ids
    return ids if len(ids) <= limit else ids[: limit - len(suffix)] + suffix
