"""A search over mixtures of data sets: short trainings, each with shares that follow from the scores before.

EmbeddingGemma's recipe (arXiv 2509.20354) takes a seed mixture and ten drawn from a Dirichlet distribution,
then Bayesian optimization, and averages checkpoints of several of the mixtures that it found. Optuna's
tree-structured Parzen estimator does the optimization here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_embed.extras import needs_extra
from edge_embed_train.data import dirichlet_mixtures
from edge_embed_train.evaluate import mean_score

DRAWN = 10
"""Mixtures that are drawn before the optimization begins, and never more than half of the trials."""

LEAST_WEIGHT = 1e-3
"""The least weight of a data set beside the heaviest one, which has 1."""

LEAST_SCORE = -1.0
"""The least rank correlation."""


@dataclass(frozen=True)
class Trial:
    """A mixture that was tried.

    Attributes:
        shares: Share of batches of each data set; they add up to 1.
        score: The mean over the development sets after the short training.
    """

    shares: tuple[float, ...]
    score: float


def propose(
    base: Sequence[float], trials: Sequence[Trial], count: int, *, concentration: float, seed: int
) -> tuple[float, ...]:
    """Returns the mixture to try next: the base, then draws around it, then what the scores suggest.

    It depends on nothing but the arguments, so a stopped search goes on as it would have.

    Args:
        base: Shares that add up to 1.
        trials: What was tried, in order.
        count: How many will be tried in all.
        concentration: Of the Dirichlet distribution around the base.
        seed: Of the draws and of the optimization.

    Raises:
        MissingExtraError: If Optuna is needed and not installed.
    """
    number, drawn = len(trials), min(DRAWN, count // 2)
    if number == 0:
        return tuple(base)
    if number <= drawn:
        mixtures = dirichlet_mixtures(base, drawn, concentration=concentration, seed=seed)
        return tuple(mixtures[number - 1])
    return _suggested(trials, seed + number)


def scored(scores: Mapping[str, float]) -> float:
    """Returns what a trial is judged by: the mean over the sets, and the least where a set has no score.

    A model that gives all texts one vector has no rank correlation.
    """
    mean = mean_score(scores)
    return mean if math.isfinite(mean) else LEAST_SCORE


def best(trials: Sequence[Trial], count: int) -> list[Trial]:
    """Returns the trials with the highest scores, best first; of equal ones the earlier first."""
    return sorted(trials, key=lambda trial: -trial.score)[:count]


def require_optuna() -> None:
    """Finds out before a long search whether Optuna is there.

    Raises:
        MissingExtraError: If it is not installed.
    """
    with needs_extra("mixtures", "searching for a mixture"):
        import optuna  # noqa: F401 - half a second to import


def _suggested(trials: Sequence[Trial], seed: int) -> tuple[float, ...]:
    require_optuna()
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    names = [str(index) for index in range(len(trials[0].shares))]
    weight = optuna.distributions.FloatDistribution(LEAST_WEIGHT, 1.0, log=True)
    space: dict[str, Any] = dict.fromkeys(names, weight)
    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in trials:
        weights = np.clip(np.asarray(trial.shares) / max(trial.shares), LEAST_WEIGHT, 1.0)
        params = dict(zip(names, weights.tolist(), strict=True))
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=space, value=float(trial.score))
        )
    suggestion = study.ask(space)
    found = np.asarray([suggestion.params[name] for name in names])
    return tuple((found / found.sum()).tolist())
