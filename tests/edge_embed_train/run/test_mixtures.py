from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_embed.errors import InputError, MissingExtraError
from edge_embed_train.recipe import read_recipe
from edge_embed_train.run import engine, train
from edge_embed_train.run.mixtures import LEAST_SCORE, LEAST_WEIGHT, Trial, best, propose, scored
from tests.edge_embed_train.run.test_train import _recipe, _stage, _weights, place

__all__ = ["place"]

BASE = (0.5, 0.3, 0.2)


def _search(count: int, score, seed: int = 1) -> list[Trial]:
    trials: list[Trial] = []
    for _ in range(count):
        shares = propose(BASE, trials, count, concentration=5.0, seed=seed)
        trials.append(Trial(shares, score(shares)))
    return trials


def test_a_search_starts_at_the_base_and_draws_around_it() -> None:
    trials = _search(30, lambda shares: 0.0)
    assert trials[0].shares == BASE
    assert len({trial.shares for trial in trials}) == 30
    for trial in trials:
        assert sum(trial.shares) == pytest.approx(1)
        assert min(trial.shares) >= LEAST_WEIGHT / 3 or trial in trials[1:11]  # draws may be smaller
    assert [t.shares for t in _search(30, lambda shares: 0.0)] == [t.shares for t in trials]
    assert [t.shares for t in _search(30, lambda shares: 0.0, seed=2)][1:] != [t.shares for t in trials][1:]


def test_the_scores_lead_the_search() -> None:
    def score(shares: tuple[float, ...]) -> float:
        return -abs(shares[2] - 0.9)

    trials = _search(40, score)
    drawn, suggested = trials[:11], trials[11:]
    assert max(t.score for t in suggested) > max(t.score for t in drawn)
    assert best(trials, 1)[0].shares[2] == pytest.approx(0.9, abs=0.05)
    # What it proposes depends on the trials alone, so a search that was stopped goes on as it would have.
    assert propose(BASE, trials[:20], 40, concentration=5.0, seed=1) == trials[20].shares


def test_a_model_without_a_score_is_the_worst() -> None:
    assert scored({"a": 0.5, "b": 0.7}) == pytest.approx(0.6)
    assert scored({"a": 0.5, "b": float("nan")}) == LEAST_SCORE


def test_the_best_come_first() -> None:
    trials = [Trial((1.0,), 0.2), Trial((0.9,), 0.7), Trial((0.8,), 0.7)]
    assert best(trials, 2) == [trials[1], trials[2]]


SOUP = "members = 2\ntrials = 3\ntrial_steps = 2\nloss = { matching = 1.0 }"


def test_a_soup_of_the_mixtures_that_a_search_found(place: Path, tmp_path: Path, monkeypatch) -> None:
    soup = _stage("soup", steps=3, data='["pairs", "texts"]', more=SOUP)
    recipe = _recipe(place, "search", _stage("distill"), soup)
    whole = train(recipe, tmp_path / "whole")
    records = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert set(whole.scores) == {"distill", "soup-1", "soup-2", "soup"}  # trials are no results
    trials = [record for record in records if record.get("event") == "trial"]
    assert len(trials) == 3
    mixtures = next(r["mixtures"] for r in records if r.get("mixtures"))
    ranked = sorted(trials, key=lambda record: -record["score"])
    assert mixtures == [record["shares"] for record in ranked[:2]]
    assert not list((tmp_path / "whole" / "stages").rglob("*trial*"))  # their models are not kept

    run_stage, calls = engine.run_stage, []

    def stopped(recipe, training, *others):
        calls.append(training.key)
        if calls.count("soup-trial-3") == 1 and training.key == "soup-trial-3":
            raise KeyboardInterrupt
        return run_stage(recipe, training, *others)

    monkeypatch.setattr(engine, "run_stage", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "stopped")
    again = train(recipe, tmp_path / "stopped")
    assert calls[-6:] == ["soup-trial-1", "soup-trial-2", "soup-trial-3", "soup-trial-3", "soup-1", "soup-2"]
    ours, theirs = _weights(again.model), _weights(whole.model)
    assert all(bool((ours[name] == theirs[name]).all()) for name in theirs)


@pytest.mark.parametrize(
    ("stage", "problem"),
    [
        (_stage("finetune", more="trials = 3"), "has trials"),
        (_stage("soup", data='["pairs", "texts"]', more="trials = 2"), "fewer mixtures than it trains"),
        (_stage("soup", more="trials = 3"), "cannot search for a mixture"),
    ],
)
def test_a_search_that_could_not_choose_is_refused(place: Path, stage: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read_recipe(_recipe(place, "bad", stage))


def test_the_steps_of_a_stage_count_its_search(place: Path) -> None:
    recipe = read_recipe(_recipe(place, "steps", _stage("soup", 30, data='["pairs", "texts"]', more=SOUP)))
    assert recipe.stages[0].all_steps == 2 * 30 + 3 * 2


def test_optuna_is_asked_for_before_anything_is_trained(place: Path, tmp_path: Path, monkeypatch) -> None:
    recipe = _recipe(place, "lacks", _stage("soup", steps=3, data='["pairs", "texts"]', more=SOUP))
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(MissingExtraError, match="optuna"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()
