"""The engine for a model file, by the accelerator that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edge_embed.engine.uninterrupted import uninterrupted
from edge_embed.model_file.file import ModelFile

if TYPE_CHECKING:
    from edge_embed.engine.accelerators import Acceleration
    from edge_embed.engine.base import Engine


def load_engine(
    file: ModelFile, accelerator: str, num_threads: int, weight_cache: str | Path, self_check: bool
) -> tuple[Engine, Acceleration | None]:
    """Returns an engine that is ready to run, and what runs it if an accelerator was asked for.

    An interrupt takes effect when the model is loaded, so that nothing stays half loaded.

    Args:
        file: The model file.
        accelerator: "cpu", "gpu", "npu" or "auto".
        num_threads: Threads for what runs on the CPU.
        weight_cache: "auto", "memory", or a directory.
        self_check: Whether the graph must reproduce the file's probe.

    Raises:
        ModelFileError: If the graph is damaged.
        SelfCheckError: If the graph does not reproduce the probe.
        AcceleratorError: If the named accelerator is absent, fails, or takes nothing.
        RuntimeFailure: If LiteRT is missing or refuses the graph.
    """

    def load() -> tuple[Engine, Acceleration | None]:
        if accelerator == "cpu":
            from edge_embed.engine.weight_cache import open_engine  # nothing of LiteRT loads before a model

            return open_engine(file, num_threads, weight_cache, self_check), None
        from edge_embed.engine.accelerators import open_accelerated  # few use it

        return open_accelerated(file, accelerator, num_threads, weight_cache, self_check)

    return uninterrupted(load)
