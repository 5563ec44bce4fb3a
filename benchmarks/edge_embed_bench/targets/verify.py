"""`edge_embed verify --target`: runs the probes of a file on a target and compares the answers here."""

from __future__ import annotations

from edge_embed.model_file.file import ModelFile
from edge_embed.model_file.manifest import Parity
from edge_embed.progress import progress_bar
from edge_embed.proof.rerun import judge
from edge_embed_bench.choices import choose
from edge_embed_bench.targets.base import Settings, open_target


def probes_on(
    name: str,
    model: ModelFile,
    num_threads: int | None,
    *,
    prepare: bool = False,
    python: str | None = None,
    accelerator: str = "cpu",
) -> Parity:
    """Answers every stored probe on a target and compares with the vectors of the source.

    Args:
        name: The target.
        model: The file; its probes have been checked.
        num_threads: For the runtime there.
        prepare: Whether the target may download what it needs.
        python: An interpreter there, for a target that has one.
        accelerator: What runs the graph there.

    Raises:
        EdgeEmbedError: If the target cannot be used, or fails; what was put there is removed.
    """
    probes, manifest = model.probes(), model.manifest
    target = open_target(name, Settings(prepare=prepare, python=python, accelerator=accelerator))
    choose(f"accelerator of the target {name}", [accelerator], {a: a for a in target.accelerators})
    try:
        target.prepare()
        with progress_bar(len(probes), f"probes on {name}", unit="probe") as advance:
            answers = target.rerun(model, num_threads, advance)
    finally:
        target.close()
    return judge(
        [(answer.tokens, answer.vector) for answer in answers],
        probes,
        thresholds=manifest.parity.thresholds,
        k=manifest.parity.neighbours_k,
    )
