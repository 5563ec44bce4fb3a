"""The engine: stages in order, in one process or in several, and what comes after the last."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge_embed_train.data import dirichlet_mixtures
from edge_embed_train.evaluate import DevSet, read_sets, score
from edge_embed_train.merge import merge
from edge_embed_train.qat import quantize_model, round_model, trained_recipe
from edge_embed_train.quiet import quiet
from edge_embed_train.recipe import AdaptStage, Recipe, RotateStage, StudentStage, TrainStage, read_recipe
from edge_embed_train.run.card import write_card
from edge_embed_train.run.folder import RunFolder, replace_directory
from edge_embed_train.run.inputs import Teacher, prepare_inputs, require_files
from edge_embed_train.run.mixtures import Trial, best, propose, require_optuna, scored
from edge_embed_train.run.plots import plot_metrics
from edge_embed_train.run.training import Training, cuda, load_model, run_stage, save_model


@dataclass(frozen=True)
class Trained:
    """What a run made.

    Attributes:
        model: The checkpoint: sentence-transformers loads it and `edge_embed convert` takes it.
        scores: On the development sets, by stage and set.
    """

    model: Path
    scores: dict[str, dict[str, float]]


def train(recipe_path: str | Path, output: str | Path, *, cache: str | Path | None = None) -> Trained:
    """Runs a recipe. The same call goes on where an earlier one was stopped.

    Under torchrun every process calls it; the first one writes.

    Args:
        recipe_path: The TOML file.
        output: The directory of the run.
        cache: Where tables and teacher vectors are kept, for several runs; by default in the run's directory.

    Raises:
        InputError: If the recipe or its data cannot be used, or the directory is of another recipe.
        CheckpointError: If a model cannot be read.
        TrainingError: If the loss is not a number, or something cannot be written. What was saved stays.
    """
    recipe = read_recipe(recipe_path)
    require_files(recipe)
    sets = read_sets(recipe.dev)
    kept = None if cache is None else Path(cache).expanduser()
    return Run(recipe, Path(output).expanduser(), sets, kept).finish()


class Run:
    """One run of a recipe.

    Args:
        recipe: The recipe.
        output: The directory.
        sets: The development sets.
        cache: Where tables and teacher vectors are kept; None for the directory.
    """

    def __init__(self, recipe: Recipe, output: Path, sets: list[DevSet], cache: Path | None = None) -> None:
        from accelerate import PartialState

        self._state = PartialState(cpu=not cuda())
        self.recipe, self.sets = recipe, sets
        if any(isinstance(stage, TrainStage) and stage.trials for stage in recipe.stages):
            require_optuna()
        with self._first():
            self.folder = RunFolder(output, recipe, writes=self._state.is_main_process, cache=cache)
        self.teacher = Teacher(recipe.teacher, recipe.teacher_file) if recipe.teacher else None

    @contextmanager
    def _first(self) -> Iterator[None]:
        """Lets the writing process go first; the others then find what it has written."""
        with self._state.main_process_first():
            yield

    def finish(self) -> Trained:
        """Runs what is left of the stages."""
        place: str | Path = self.recipe.model
        for number, stage in enumerate(self.recipe.stages, 1):
            target = self.folder.stage(number, stage)
            if not self.folder.is_finished(stage.name):
                if isinstance(stage, TrainStage):
                    self._train(stage, place, target)
                else:
                    with self._first():
                        if self._state.is_main_process:
                            with quiet():
                                self._make(stage, place, target)
                self._state.wait_for_everyone()
                self.folder.finish(stage.name)
            place = target / "model"
        scores = self._scores()
        if self._state.is_main_process:
            self._publish(Path(place), scores)
        self._state.wait_for_everyone()
        return Trained(self.folder.model, scores)

    def _make(self, stage: StudentStage | AdaptStage | RotateStage, place: str | Path, target: Path) -> None:
        """Runs a stage that makes a model in another way than by training."""
        facts: dict[str, Any] = {"scores": {}}
        if isinstance(stage, StudentStage):
            from edge_embed_train.student import make_student

            assert self.teacher is not None  # the recipe was checked
            make_student(self.recipe, stage, self.teacher, target / "model", self.folder)
        elif isinstance(stage, RotateStage):
            from edge_embed_train.rotate import rotate

            facts["lost_order"] = rotate(self.recipe, stage, place, target / "model", self.folder)
        else:
            from edge_embed_train.adapt import adapt

            adapt(self.recipe, stage, place, target, self.folder)
        if self.sets:
            model = load_model(target / "model")
            if recipe := trained_recipe(model):
                quantize_model(model, recipe)
            facts["scores"] = score(model, self.sets, batch_size=self.recipe.teacher_batch_size)
        self.folder.log(stage=stage.name, event="finished", **facts)

    def _train(self, stage: TrainStage, place: str | Path, target: Path) -> None:
        with self._first():
            prompts: Mapping[str, str] = load_model(place).prompts or {}
            inputs = prepare_inputs(self.recipe, stage, self.folder, self.teacher, prompts)
        whole = Training(stage, stage.name, place, target, inputs)
        if stage.kind != "soup":
            self._run(whole)
            return
        mixtures = self._mixtures(whole)
        parents = [target / f"member-{number}" for number in range(1, stage.members + 1)]
        for number, (parent, shares) in enumerate(zip(parents, mixtures, strict=True), 1):
            key = f"{stage.name}-{number}"
            if not self.folder.is_finished(key):
                self._run(replace(whole, key=key, target=parent, shares=shares))
                self._state.wait_for_everyone()
                self.folder.finish(key)
        if self._state.is_main_process:
            shutil.rmtree(target / "model", ignore_errors=True)
            places = [parent / "model" for parent in parents]
            merged = merge(places, target / "model") if len(places) > 1 else None
            if merged is None:
                shutil.copytree(places[0], target / "model")
            scores = (
                score(load_model(target / "model"), self.sets, batch_size=self.recipe.teacher_batch_size)
                if self.sets
                else {}
            )
            self.folder.log(stage=stage.name, event="finished", scores=scores, mixtures=mixtures)

    def _run(self, training: Training) -> Mapping[str, float]:
        return run_stage(self.recipe, training, self.folder, self.sets)

    def _mixtures(self, whole: Training) -> list[Sequence[float]]:
        """Returns the mixtures of a soup: the shares and draws around them, or the best of a search."""
        stage, base = whole.stage, whole.inputs.shares
        if stage.trials:
            return [trial.shares for trial in best(self._search(whole), stage.members)]
        around = dirichlet_mixtures(
            base, stage.members - 1, concentration=stage.concentration, seed=self.recipe.seed
        )
        return [base, *around]

    def _search(self, whole: Training) -> list[Trial]:
        """Tries mixtures in short trainings; those that an earlier call tried are not tried again."""
        stage = whole.stage
        short = replace(stage, steps=stage.steps_of_a_trial, evaluate_every=0, patience=0, save_every=0)
        while len(trials := self._tried(stage)) < stage.trials:
            shares = propose(
                whole.inputs.shares,
                trials,
                stage.trials,
                concentration=stage.concentration,
                seed=self.recipe.seed,
            )
            key = f"{stage.name}-trial-{len(trials) + 1}"
            scratch = whole.target / key
            scores = self._run(
                replace(whole, stage=short, key=key, target=scratch, shares=shares, trial=True)
            )
            if self._state.is_main_process:
                found = Trial(shares, scored(scores))
                self.folder.log(stage=stage.name, event="trial", **asdict(found))
                shutil.rmtree(scratch)
            self._state.wait_for_everyone()
        return trials

    def _tried(self, stage: TrainStage) -> list[Trial]:
        """Returns the trials of a search so far, which every process reads from the metrics."""
        return [
            Trial(tuple(record["shares"]), record["score"])
            for record in self.folder.records()
            if record.get("stage") == stage.name and record.get("event") == "trial"
        ]

    def _scores(self) -> dict[str, dict[str, float]]:
        return {
            record["stage"]: record["scores"]
            for record in self.folder.records()
            if record.get("event") == "finished" and record.get("scores") and not record.get("trial")
        }

    def _publish(self, place: Path, scores: Mapping[str, Mapping[str, float]]) -> None:
        """Copies the last stage's model to the result, with its card."""
        scratch = self.folder.model.with_name("model.part")
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(place, scratch)
        last = self.recipe.stages[-1]
        if getattr(last, "quantize", ""):
            # Another stage would have gone on from the exact weights; the result has the ones of the file.
            model = load_model(scratch)
            if round_model(model):
                save_model(model, scratch)
        write_card(scratch, self.recipe, scores)
        replace_directory(scratch, self.folder.model)
        plot_metrics(self.folder.records(), self.folder.path / "metrics.png")
