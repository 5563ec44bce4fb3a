"""Rerun: the gate again, for a file that was saved, against the checkpoint that it was made from."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import Unpack

from edge_embed.errors import CheckpointError
from edge_embed.model_file.file import ModelFile
from edge_embed.model_file.manifest import Parity
from edge_embed.progress import Step, Ticker
from edge_embed_convert.gate.parity import ask_source, measure
from edge_embed_convert.gate.probe_texts import ProbeText
from edge_embed_convert.source.checkpoint import CheckpointOptions, load
from edge_embed_convert.source.reference import Reference


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
        # The file may have prompts that were added at its conversion.
        "prompts": {**manifest.prompts, **checkpoint.prompts},
        "max_tokens": checkpoint.max_tokens,
    }
    for what, value in same.items():
        if value != getattr(manifest, what):
            raise CheckpointError(
                f"the file was not converted from this checkpoint: its {what} differs",
                got=str(value)[:200],
                expected=str(getattr(manifest, what))[:200],
                fix="pass the checkpoint and the options that the file was converted with",
            )
    texts = [ProbeText(probe.text, probe.prompt_name) for probe in file.probes()]
    ticker = Ticker(progress, 1 + 2 * len(texts))
    ticker("loading the source model")
    probes = ask_source(Reference(checkpoint), texts, manifest.prompts, manifest.buckets, ticker)
    parity = measure(path, probes, manifest.parity.thresholds, num_threads, ticker)
    return parity, checkpoint.weights_sha256() == manifest.source.sha256
