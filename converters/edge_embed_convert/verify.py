"""Verify: the file, run by the real runtime, against its source in float32. Saving waits for the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from typing_extensions import Unpack

from edge_embed.engine.cpu import CpuEngine
from edge_embed.engine.packed_weights import IN_MEMORY
from edge_embed.errors import CheckpointError
from edge_embed.model_file.file import ModelFile, Probe
from edge_embed.model_file.manifest import Manifest, Parity, encode_vector
from edge_embed.options import check_threads
from edge_embed.progress import Step, Ticker
from edge_embed.proof.parity import compare
from edge_embed.proof.rerun import rerun_probes
from edge_embed_convert.probes import ProbeText
from edge_embed_convert.recipes.grammar import THRESHOLDS
from edge_embed_convert.source.checkpoint import CheckpointOptions, load
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
    """Runs the float32 graph over the probes, ahead of quantization, and compares.

    A wrong window or a lost layer can hide in the noise of int4. Here there is no noise: what the export
    and the rewrites did must be exact, and what is lost later is the recipe's doing alone.

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

    Raises:
        CheckpointError: If the checkpoint is not one that the file can have been made from.
    """
    file = ModelFile.open(path)
    manifest = file.manifest
    options["max_tokens"] = options.get("max_tokens") or manifest.max_tokens
    checkpoint = load(source, **options)
    same = {
        "dimension": checkpoint.dimension,
        "prompts": checkpoint.prompts,
        "max_tokens": checkpoint.max_tokens,
    }
    for what, value in same.items():
        if value != getattr(manifest, what):
            raise CheckpointError(
                f"the file was not made from this checkpoint: its {what} is another",
                got=str(value)[:200],
                expected=str(getattr(manifest, what))[:200],
                fix="name the checkpoint that it was converted from, with the options of its conversion",
            )
    texts = [ProbeText(probe.text, probe.prompt_name) for probe in file.probes()]
    ticker = Ticker(progress, 1 + 2 * len(texts))
    ticker("loading the source model")
    probes = ask_source(Reference(checkpoint), texts, checkpoint.prompts, manifest.buckets, ticker)
    parity = measure(path, probes, manifest.parity.thresholds, num_threads, ticker)
    return parity, checkpoint.weights_sha256() == manifest.source.sha256
