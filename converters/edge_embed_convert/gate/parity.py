"""Parity: a file, run by the real runtime, against its source in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from edge_embed.engine.cpu import CpuEngine
from edge_embed.engine.packed_weights import IN_MEMORY
from edge_embed.errors import ParityError
from edge_embed.model_file.manifest import Manifest, Parity, encode_vector
from edge_embed.model_file.probes import Probe
from edge_embed.options import check_threads
from edge_embed.proof.parity import compare
from edge_embed.proof.rerun import rerun_probes
from edge_embed_convert.gate.probe_texts import ProbeText
from edge_embed_convert.recipes.grammar import THRESHOLDS
from edge_embed_convert.source.reference import Reference

NEIGHBOURS = 5
"""How many nearest neighbours of each probe are compared."""

Progress = Callable[[str], None]


def ask_source(
    reference: Reference,
    texts: Sequence[ProbeText],
    prompts: Mapping[str, str],
    buckets: Sequence[int],
    progress: Progress,
) -> list[Probe]:
    """Returns the probes with the source's ids and vectors: one text at a time, without padding.

    Args:
        reference: The source.
        texts: What to ask.
        prompts: The checkpoint's prompts.
        buckets: The file's lengths, ascending.
        progress: Called once per probe.
    """
    probes = []
    for probe in texts:
        progress("source model in float32")
        ids = reference.tokenize((prompts[probe.prompt_name] if probe.prompt_name else "") + probe.text)
        probes.append(
            Probe(
                text=probe.text,
                prompt_name=probe.prompt_name,
                tokens=ids,
                length=next(length for length in buckets if length >= len(ids)),
                embedding=encode_vector(reference.embed_tokens(ids)),
            )
        )
    return probes


def measure(
    path: Path,
    probes: Sequence[Probe],
    thresholds: Mapping[str, float],
    num_threads: int | None,
    progress: Progress,
) -> Parity:
    """Runs a model file over the probes and compares.

    Args:
        path: A model file, complete but for its own parity report.
        probes: The source's answers.
        thresholds: What the gate demands, by metric.
        num_threads: For the runtime.
        progress: Called once per probe.
    """
    return rerun_probes(
        path,
        probes,
        thresholds=thresholds,
        k=NEIGHBOURS,
        num_threads=num_threads,
        advance=lambda _: progress("converted file in its runtime"),
    )


def measure_graph(
    path: Path, manifest: Manifest, probes: Sequence[Probe], num_threads: int | None, progress: Progress
) -> Parity:
    """Runs the float32 graph over the probes, before quantization, and compares.

    With int4, rounding errors can conceal a wrong window or a lost layer. In float32 they cannot: rewriting
    and exporting must be exact, so any later loss comes from the recipe.

    Args:
        path: The flatbuffer as exported.
        manifest: Names the graph's buckets and dimension.
        probes: The source's answers.
        num_threads: For the runtime.
        progress: Called once per probe.
    """
    engine = CpuEngine(path, manifest, check_threads(num_threads), IN_MEMORY)
    vectors = []
    try:
        for probe in probes:
            progress("exported graph in float32")
            vectors.append(engine.run(probe.length, probe.tokens))
    finally:
        engine.close()
    return compare(
        np.stack(vectors),
        np.stack([probe.vector for probe in probes]),
        [probe.length for probe in probes],
        token_mismatches=0,
        thresholds=THRESHOLDS["32"].as_dict(),
        k=NEIGHBOURS,
    )


def refusal(parity: Parity, what: str, fix: str) -> ParityError:
    """Returns the error for something that failed the gate.

    Args:
        parity: Its report.
        what: What failed.
        fix: What the user can do.
    """
    return ParityError(
        f"the {what} does not agree with its source; nothing was written",
        got="; ".join(parity.failures),
        expected=", ".join(f"{metric} {bound:g}" for metric, bound in parity.thresholds.items()),
        fix=fix,
    )
