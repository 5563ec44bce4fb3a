"""sentence-transformers' trainer, with what a run adds to it: whole checkpoints, metrics, and early ends."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from sentence_transformers import SentenceTransformerTrainer
from sentence_transformers.base.evaluation import BaseEvaluator
from transformers import TrainerCallback

from edge_embed.errors import TrainingError
from edge_embed_train.evaluate import DevSet, mean_score, score
from edge_embed_train.run.folder import RunFolder, last_checkpoint, mark_complete


class StageTrainer(SentenceTransformerTrainer):  # type: ignore[misc]
    """The trainer of one stage.

    Args:
        checkpoints: Where checkpoints are kept.
        **options: Those of sentence-transformers' trainer.
    """

    def __init__(self, checkpoints: Path, **options: Any) -> None:
        super().__init__(**options)
        self.checkpoints = checkpoints

    def add_model_card_callback(self, default_args_dict: Mapping[str, Any]) -> None:
        """Adds none: the run writes its own card, and this one reads through the data first."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        self.model.save_pretrained(output_dir, create_model_card=False)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # The library's hook for a whole checkpoint. One that cannot be written is taken away again, so that
        # the one before it stays the newest.
        target = self.checkpoints / f"checkpoint-{self.state.global_step}"
        require_finite(self.model, self.checkpoints)
        try:
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                mark_complete(target)
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(target, ignore_errors=True)
            kept = last_checkpoint(self.checkpoints)
            raise TrainingError(
                f"the checkpoint of step {self.state.global_step} cannot be written",
                got=str(error).splitlines()[0],
                expected=f"free space at {self.checkpoints}",
                fix=f"free disk space and run the same command again: it continues from {kept.name}"
                if kept
                else "free disk space and run the same command again",
            ) from error


def require_finite(model: Any, checkpoints: Path) -> None:
    """Checks a model's weights before they are saved: one NaN in a gradient spoils all of them.

    Raises:
        TrainingError: If one is not finite.
    """
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            kept = last_checkpoint(checkpoints)
            raise TrainingError(
                "the weights contain values that are not numbers",
                got=name,
                fix="lower the learning rate in a recipe for a new run; "
                + (f"the last good checkpoint is {kept}" if kept else "no checkpoint was written yet"),
            )


class DevEvaluator(BaseEvaluator):  # type: ignore[misc]
    """Scores the model on the recipe's development sets while it trains."""

    def __init__(self, sets: Sequence[DevSet], batch_size: int) -> None:
        super().__init__()
        self.sets, self.batch_size = sets, batch_size
        self.primary_metric = "mean"

    def __call__(self, model: Any, *places: Any, **options: Any) -> dict[str, float]:
        """Returns the score on every set and their mean."""
        scores = score(model, self.sets, batch_size=self.batch_size)
        return {**scores, "mean": mean_score(scores)}


class Reporter(TrainerCallback):  # type: ignore[misc]
    """Writes metrics, moves the progress bar, and stops a run whose loss is not a number.

    Args:
        folder: Of the run.
        stage: The stage's key.
        advance: Called with the number of steps just done.
    """

    def __init__(self, folder: RunFolder, stage: str, advance: Callable[[int], object]) -> None:
        self.folder, self.stage, self.advance = folder, stage, advance

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Counts a step."""
        self.advance(1)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Writes a line of metrics.

        Raises:
            TrainingError: If the loss or the gradient is not finite.
        """
        logs = dict(logs or {})
        loss = logs.get("loss")
        if loss is not None and not math.isfinite(float(loss)):
            kept = last_checkpoint(Path(args.output_dir))
            raise TrainingError(
                f"the loss of stage {self.stage} is not a number",
                got=f"{loss} between the last two logs, up to step {state.global_step}",
                expected="a finite loss",
                fix="lower the learning rate or raise the temperature in a recipe for a new run; "
                + (f"the last good checkpoint is {kept}" if kept else "no checkpoint was written yet"),
            )
        scores = {k.removeprefix("eval_"): v for k, v in logs.items() if k.startswith("eval_")}
        dropped = ("runtime", "samples_per_second", "steps_per_second", "total_flos", "epoch")
        known = {k: v for k, v in logs.items() if not k.startswith(("eval_", "train_")) and k not in dropped}
        if scores:
            known["scores"] = {k: v for k, v in scores.items() if k not in dropped}
        if known:
            self.folder.log(stage=self.stage, step=state.global_step, **known)
