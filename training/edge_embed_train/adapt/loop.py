"""A loop for language models: steps, a schedule, and a state on disk from which a stopped run goes on."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_embed.errors import TrainingError
from edge_embed.progress import progress_bar

WARMUP = 0.05
"""Share of the steps in which the learning rate rises."""

SAVES, LOGS = 10, 50
"""States and lines of metrics in a run, about."""


def run_steps(
    model: Any,
    loss_of: Callable[[int], Tensor],
    *,
    steps: int,
    learning_rate: float,
    state: Path,
    label: str,
    log: Callable[..., None],
) -> None:
    """Trains a model with AdamW and a cosine schedule, in place.

    Args:
        model: The model.
        loss_of: Returns the loss of a step. What it draws must depend on the step's number alone.
        steps: How many.
        learning_rate: The highest.
        state: The file that keeps the model and the optimizer; a file of an earlier run is continued.
        label: The label of the progress bar.
        log: Called with `step` and `loss`.

    Raises:
        TrainingError: If the loss is not a number, or the state cannot be written.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    done = 0
    if state.is_file():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        done = saved["steps"]
    total, model = 0.0, model.train()
    every, saves = max(1, steps // LOGS), max(1, steps // SAVES)
    with progress_bar(steps, label, unit="step") as advance:
        advance(done)
        for step in range(done, steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * _schedule(step, steps)
            loss = loss_of(step)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            total += float(loss.detach())
            advance(1)
            if (step + 1) % every == 0:
                if not math.isfinite(total):
                    raise TrainingError(
                        f"the loss of {label} is not a number",
                        got=f"step {step + 1}",
                        fix=f"lower the learning rate; the last good state is in {state}",
                    )
                log(step=step + 1, loss=round(total / every, 5))
                total = 0.0
            if (step + 1) % saves == 0 or step + 1 == steps:
                _save(model, optimizer, step + 1, state)
    model.eval()


def _schedule(step: int, steps: int) -> float:
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _save(model: Any, optimizer: Any, steps: int, state: Path) -> None:
    scratch = state.with_suffix(".part")
    try:
        state.parent.mkdir(parents=True, exist_ok=True)
        torch.save(
            {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "steps": steps}, scratch
        )
        os.replace(scratch, state)
    except (OSError, RuntimeError) as error:
        scratch.unlink(missing_ok=True)
        raise TrainingError(
            f"the state of step {steps} cannot be written",
            got=str(error).splitlines()[0],
            fix="free disk space and run the same command again: it continues from the state before",
        ) from error
