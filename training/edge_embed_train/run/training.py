"""One training stage: from a checkpoint to a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from edge_embed.errors import InputError, TrainingError
from edge_embed.progress import progress_bar
from edge_embed_train.data import MixtureBatchSampler
from edge_embed_train.evaluate import DevSet, score
from edge_embed_train.losses import CachedEmbeddingLoss, EmbeddingLoss
from edge_embed_train.qat import clip_model, quantize_model, restore_model, trainable_recipe
from edge_embed_train.quiet import quiet
from edge_embed_train.recipe import Recipe, TrainStage
from edge_embed_train.run.folder import RunFolder, last_checkpoint, replace_directory, step_of
from edge_embed_train.run.inputs import LOAD_ERRORS, StageInputs, require_tokenizer
from edge_embed_train.run.layers import skipped_layers
from edge_embed_train.run.trainer import DevEvaluator, Reporter, StageTrainer, require_finite

LOGS = 50
"""Lines of metrics in a stage, about."""

KEPT = 2
"""Checkpoints that are kept: the newest, and the one before it until the newest is whole."""


@dataclass(frozen=True)
class Training:
    """One training of a run: a stage, a member of a soup, or a trial of a search.

    Attributes:
        stage: The stage.
        key: What metrics call it.
        start: The checkpoint that it starts from.
        target: Its directory.
        inputs: What it is fed.
        shares: Other shares of the tables than the stage's own.
        trial: Whether it is one of a search, whose scores are not the run's.
    """

    stage: TrainStage
    key: str
    start: str | Path
    target: Path
    inputs: StageInputs
    shares: Sequence[float] | None = None
    trial: bool = False

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are kept."""
        return self.target / "checkpoints"


def load_model(place: str | Path) -> Any:
    """Returns a sentence-transformers model in float32.

    Raises:
        InputError: If there is none.
    """
    from sentence_transformers import SentenceTransformer

    try:
        with quiet():
            # On a CPU the gradient of PyTorch's fused attention takes longer than all the rest of a step.
            attention = {} if cuda() else {"attn_implementation": "eager"}
            model = SentenceTransformer(
                str(place),
                model_kwargs={"dtype": torch.float32, **attention},
                device=None if cuda() else "cpu",
            )
    except LOAD_ERRORS as error:
        raise InputError(f"the model {place} cannot be loaded", got=str(error)[:200]) from error
    require_tokenizer(place)
    for name, parameter in model.named_parameters():
        if ".pooler." in name:  # BERT's next-sentence head, which no sentence vector reads
            parameter.requires_grad_(False)
    return model


def cuda() -> bool:
    """Returns whether there is a CUDA device."""
    return torch.cuda.is_available()


def _bfloat16(recipe: Recipe) -> bool:
    """Returns whether the stages compute in bfloat16."""
    if recipe.precision == "auto":
        return cuda() and torch.cuda.is_bf16_supported()
    return recipe.precision == "bfloat16"


def build_loss(model: Any, stage: TrainStage, inputs: StageInputs) -> Any:
    """Returns the stage's loss.

    Raises:
        InputError: If the teacher's vectors have another dimension than the model's.
    """
    dimension = model.get_embedding_dimension()
    if stage.loss.matching and inputs.vectors is not None and inputs.vectors.dimension != dimension:
        raise InputError(
            "the teacher's vectors have another dimension than the model's",
            got=f"{inputs.vectors.dimension} and {dimension}",
            expected="equal dimensions",
            fix="give the model a last Dense module of the teacher's dimension, or use loss.relational",
        )
    vectors = inputs.vectors if stage.loss.needs_teacher else None
    if 0 < stage.mini_batch_size < stage.batch_size:
        return CachedEmbeddingLoss(model, stage.loss, vectors, stage.mini_batch_size)
    return EmbeddingLoss(model, stage.loss, vectors)


def make_trainer(
    recipe: Recipe,
    training: Training,
    model: Any,
    *,
    sets: Sequence[DevSet] = (),
    callbacks: Sequence[Any] = (),
) -> StageTrainer:
    """Returns a trainer that is ready to run.

    Args:
        recipe: The recipe.
        training: What is to be done.
        model: What it trains.
        sets: Development sets.
        callbacks: More of them.
    """
    from sentence_transformers import SentenceTransformerTrainingArguments
    from transformers import EarlyStoppingCallback

    stage, inputs = training.stage, training.inputs
    logs = max(1, stage.steps // LOGS)
    every = stage.save_every or max(1, stage.steps // 10)
    evaluates = bool(sets and stage.evaluate_every)
    if stage.patience:
        every = stage.evaluate_every  # the best checkpoint is one of those that were evaluated
    sampler = partial(
        MixtureBatchSampler,
        shares=list(training.shares or inputs.shares),
        lengths=[table.lengths() for table in inputs.tables.values()],
        steps=stage.steps,
    )
    prompts = {name: each for name, each in inputs.prompts.items() if each}
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(training.checkpoints),
        max_steps=stage.steps,
        # With `split_batches` this is the batch of all processes together.
        per_device_train_batch_size=stage.batch_size,
        accelerator_config={"split_batches": True},
        learning_rate=stage.learning_rate,
        lr_scheduler_type=stage.schedule if stage.schedule != "constant" else "constant_with_warmup",
        warmup_steps=round(stage.warmup * stage.steps),
        weight_decay=stage.weight_decay,
        logging_steps=logs,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=-(-every // logs) * logs if not stage.patience else every,
        save_total_limit=KEPT,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=stage.evaluate_every or None,
        load_best_model_at_end=bool(stage.patience),
        metric_for_best_model="eval_mean" if stage.patience else None,
        restore_callback_states_from_checkpoint=bool(stage.patience),  # how long it has waited
        greater_is_better=True if stage.patience else None,
        seed=recipe.seed,
        bf16=_bfloat16(recipe),
        use_cpu=not cuda(),
        disable_tqdm=True,
        report_to=[],
        dataloader_num_workers=min(8, (os.cpu_count() or 1) // 2) if cuda() else 0,
        dataloader_drop_last=True,
        ddp_find_unused_parameters=False,
        multi_dataset_batch_sampler=sampler,
        prompts=prompts or None,
    )
    stops = [EarlyStoppingCallback(early_stopping_patience=stage.patience)] if stage.patience else []
    with quiet():
        trainer = StageTrainer(
            training.checkpoints,
            model=model,
            args=arguments,
            train_dataset=inputs.datasets(),
            loss=build_loss(model, stage, inputs),
            evaluator=DevEvaluator(sets, recipe.teacher_batch_size) if evaluates else None,
            callbacks=[*callbacks, *stops],
        )
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    return trainer


def prepare_model(model: Any, stage: TrainStage) -> None:
    """Makes a model compute as a stage trains it, in place."""
    restore_model(model, forget=not stage.quantize)
    if stage.quantize:
        trained_for = trainable_recipe(stage.quantize)
        clip_model(model, trained_for)
        quantize_model(model, trained_for)
    if stage.max_tokens:
        model.max_seq_length = min(model.max_seq_length, stage.max_tokens)


def layers_of(model: Any, stage: TrainStage) -> AbstractContextManager[None]:
    """Returns the context in which the stage's layers compute, or are left out."""
    return skipped_layers(model) if stage.layers == "skip" else nullcontext()


def run_stage(
    recipe: Recipe, training: Training, folder: RunFolder, sets: Sequence[DevSet]
) -> Mapping[str, float]:
    """Trains a stage, from its newest checkpoint if it was begun before, and writes its model.

    Args:
        recipe: The recipe.
        training: What is to be done.
        folder: Of the run.
        sets: Development sets.

    Returns:
        The scores of the result.

    Raises:
        TrainingError: If the loss is not a number, or the disk is full.
    """
    torch.manual_seed(recipe.seed)  # weights that the checkpoint lacks are drawn
    stage, key = training.stage, training.key
    model = load_model(training.start)
    longest = model.max_seq_length
    prepare_model(model, stage)
    last = last_checkpoint(training.checkpoints)
    folder.forget_after(key, step_of(last) if last else 0)
    with layers_of(model, stage), progress_bar(stage.steps, key, unit="step") as advance:
        if last:
            advance(step_of(last))
        reporter = Reporter(folder, key, advance)
        trainer = make_trainer(recipe, training, model, sets=sets, callbacks=[reporter])
        with quiet():
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        require_finite(model, training.checkpoints)
        # Layers that were skipped are not trained yet, so the score is taken without them.
        scores = score(model, sets, batch_size=recipe.teacher_batch_size) if sets and folder.writes else {}
    restore_model(model)
    model.max_seq_length = longest
    if folder.writes:
        save_model(model, training.target / "model")
        facts = {"steps": trainer.state.global_step, "scores": scores}
        folder.log(stage=key, event="finished", **facts, **({"trial": True} if training.trial else {}))
    return scores


def save_model(model: Any, target: Path) -> None:
    """Writes a checkpoint, complete or not at all.

    Raises:
        TrainingError: If it cannot be written.
    """
    scratch = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with quiet():
            model.save_pretrained(str(scratch), create_model_card=False)
        replace_directory(scratch, target)
    except OSError as error:
        raise TrainingError(
            f"the model cannot be written to {target}",
            got=str(error),
            fix="free disk space and run the same command again: it continues from its last checkpoint",
        ) from error
