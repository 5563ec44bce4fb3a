"""What a run will take: steps, time and memory, from a few steps of every stage on the real data."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from edge_embed_train.evaluate import read_sets
from edge_embed_train.quiet import quiet
from edge_embed_train.recipe import AdaptStage, Recipe, RotateStage, StudentStage, TrainStage, read_recipe
from edge_embed_train.run.folder import RunFolder
from edge_embed_train.run.inputs import Teacher, prepare_inputs, require_files
from edge_embed_train.run.training import Training, cuda, layers_of, load_model, make_trainer, prepare_model

STEPS = 3
"""Steps that are measured, after one that warms up."""

ROWS = 20_000
"""Rows of a data set that are read for the estimate."""

TEACHER_TEXTS = 64


@dataclass(frozen=True)
class StageEstimate:
    """What one stage will take.

    Attributes:
        name: The stage.
        kind: Its kind.
        steps: Steps, of all trainings of a soup together.
        rows: Rows of its data, as far as they were read.
        seconds_per_step: Measured; None where the stage makes a model first.
        seconds: All steps, without the teacher.
        memory: The process's greatest memory so far in bytes, or the device's for this stage on CUDA.
    """

    name: str
    kind: str
    steps: int
    rows: int
    seconds_per_step: float | None
    seconds: float | None
    memory: int


def estimate(recipe_path: str | Path) -> list[StageEstimate]:
    """Runs a few steps of every training stage in a scratch directory and returns what all will take.

    The teacher, where a stage needs one, is asked for the rows of the estimate alone.

    Args:
        recipe_path: The TOML file.

    Raises:
        InputError: If the recipe or its data cannot be used.
    """
    recipe = read_recipe(recipe_path)
    require_files(recipe)
    read_sets(recipe.dev)
    small = {
        name: replace(
            data,
            source=replace(
                data.source,
                limit=min(ROWS if data.source.limit is None else data.source.limit, _rows(recipe)),
            ),
        )
        for name, data in recipe.data.items()
    }
    recipe = replace(recipe, data=small)
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(Path(scratch) / "run", recipe)
        return _stages(recipe, folder)


def _rows(recipe: Recipe) -> int:
    """Returns how many rows of a data set are read: few where a teacher has to embed them."""
    taught = any(isinstance(stage, TrainStage) and stage.needs_teacher for stage in recipe.stages)
    largest = max((s.batch_size for s in recipe.stages if isinstance(s, TrainStage)), default=1)
    return max(2 * largest, TEACHER_TEXTS) if taught else ROWS


def _stages(recipe: Recipe, folder: RunFolder) -> list[StageEstimate]:
    teacher = Teacher(recipe.teacher, recipe.teacher_file) if recipe.teacher else None
    place: str | Path = recipe.model
    found = []
    for number, stage in enumerate(recipe.stages, 1):
        if not isinstance(stage, TrainStage):
            steps = stage.steps + stage.decoder_steps if isinstance(stage, AdaptStage) else 0
            target = folder.stage(number, stage) / "model"
            if isinstance(stage, StudentStage):
                from edge_embed_train.student import make_student

                assert teacher is not None  # the recipe was checked
                make_student(recipe, stage, teacher, target, folder)
            elif isinstance(stage, RotateStage):
                from edge_embed_train.rotate import rotate

                fewer = replace(stage, steps=2, neighbours=1, texts=TEACHER_TEXTS)
                rotate(recipe, fewer, place, target, folder)
            else:
                from edge_embed_train.adapt import adapt

                short = replace(stage, steps=2, decoder_steps=min(2, stage.decoder_steps))
                adapt(recipe, short, place, target.parent, folder)
            place = target
            found.append(StageEstimate(stage.name, stage.kind, steps, 0, None, None, _memory()))
            continue
        prompts: Mapping[str, str] = load_model(place).prompts or {}
        inputs = prepare_inputs(recipe, stage, folder, teacher, prompts)
        tried = replace(stage, steps=1 + STEPS, save_every=10**9, evaluate_every=0, patience=0)
        clock = _Clock()
        model = load_model(place)
        prepare_model(model, tried)
        with layers_of(model, tried), quiet():
            trainer = make_trainer(
                recipe,
                Training(tried, stage.name, place, folder.stage(number, stage), inputs),
                model,
                callbacks=[clock.callback()],
            )
            trainer.train()
        rows = sum(table.rows for table in inputs.tables.values())
        steps = stage.all_steps
        found.append(
            StageEstimate(
                stage.name, stage.kind, steps, rows, clock.seconds, steps * clock.seconds, _memory()
            )
        )
    return found


class _Clock:
    """Measures the steps after the first."""

    def __init__(self) -> None:
        self._ends: list[float] = []

    @property
    def seconds(self) -> float:
        return (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)

    def callback(self) -> object:
        from transformers import TrainerCallback

        ends = self._ends

        class Timer(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, args: object, state: object, control: object, **_: object) -> None:
                if cuda():
                    torch.cuda.synchronize()
                ends.append(time.perf_counter())

        return Timer()


def _memory() -> int:
    if cuda():
        return int(torch.cuda.max_memory_allocated())
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024
