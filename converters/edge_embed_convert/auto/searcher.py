"""Searcher: measures parts, mixes their schemes, and measures files until one keeps to the budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import asdict

from edge_embed.errors import BudgetError, RecipeError
from edge_embed.progress import Ticker
from edge_embed.proof.rerun import rerun_probes
from edge_embed_convert.auto.budget import FIXED, NEIGHBOURS, Budget, Score, Trial
from edge_embed_convert.auto.journal import Journal
from edge_embed_convert.auto.knapsack import Choice, Front, Mixture, recipe_of, solve
from edge_embed_convert.auto.parts import Part, Sensitivity, parts_of, placed, spread
from edge_embed_convert.auto.simulate import Simulation
from edge_embed_convert.graph.weights import TABLE
from edge_embed_convert.job import Job
from edge_embed_convert.recipes.calibrate.rounding import Moments, collect_moments
from edge_embed_convert.recipes.grammar import AUTO, Recipe, Scheme

FRONT_POINTS = 6
"""How many sizes between the smallest and the largest mixture are simulated for the plot."""

FILES_TRIED = 5
"""How many files a search for a quality writes at most before it gives up: each is nearer than the last."""

HALVINGS = 7
"""Steps of the search along the front: a hundredth of its length."""

SLACK = 256
"""Bytes left free under a size: the digits of the report in the manifest come last."""


class Searcher:
    """The steps of one search.

    Args:
        job: The exported checkpoint.
        journal: Remembers trials.
        budget: What the file must keep to.
        ticker: Called as each step begins.

    Attributes:
        trials: Every recipe that was tried.
        losses: The loss of each part at each scheme.
        moments: What the projections read, over the calibration texts.
    """

    def __init__(self, job: Job, journal: Journal, budget: Budget, ticker: Ticker) -> None:
        self.trials = list[Trial]()
        self.losses: dict[str, dict[str, float]] = {}
        self._job, self._journal, self._budget, self._ticker = job, journal, budget, ticker
        self.moments: Moments = job.moments()
        self._simulation = Simulation(job.model, self.moments, job.measured)
        self._parts: list[Part] = parts_of(job.model)
        self._names = job.checkpoint.family.recipes
        self._overhead = 0

    def run(self) -> tuple[Trial, Recipe]:
        """Returns the best file that keeps to the budget and its recipe."""
        front = solve(self._choices())
        recipes = self._fixed()
        self._overhead = self._beside_weights(front)
        found = self._for_size(front) if self._budget.max_size is not None else self._for_quality(front)
        recipes |= found
        self._draw(front)
        fitting = [t for t in self.trials if t.measured and self._budget.met(t.size, t.score)]
        if not fitting:
            raise self._refusal()
        winner = max(fitting, key=self._budget.better)
        return winner, recipes[winner.recipe]

    def _choices(self) -> dict[str, list[Choice]]:
        tokens = [probe.tokens for probe in self._job.measured]
        self._ticker("running the measuring texts")
        sensitivity = Sensitivity(self._simulation, collect_moments(self._job.model, tokens), self._remember)
        self._ticker.expect(3 * len(self._parts))
        found = {}
        for part in self._parts:
            choices = sensitivity.choices(part, lambda what: self._ticker(f"trying {what}"))
            found[part.name] = choices
            self.losses[part.name] = {str(choice.scheme): choice.loss for choice in choices}
        return found

    def _remember(self, trial: str, measure: Callable[[], Score]) -> Score:
        return Score(**self._journal.remember(trial, lambda: asdict(measure())))

    def _fixed(self) -> dict[str, Recipe]:
        """Measures the fixed recipes that the model's shape allows."""
        recipes: dict[str, Recipe] = {}
        self._ticker.expect(len(FIXED))
        for name in FIXED:
            recipe = Recipe.parse(name, self._names)
            try:
                self._measure(name, recipe)
            except RecipeError:
                continue  # blocks of 32 do not divide the rows of every model
            recipes[recipe.spec] = recipe
        return recipes

    def _measure(self, label: str, recipe: Recipe) -> Trial:
        """Writes a file, runs it over the measuring texts, and notes what it gives."""
        self._ticker(f"measuring {label}")
        figures = self._journal.remember(f"file {recipe.spec}", lambda: self._run(recipe))
        size = int(figures["size"])
        score = Score(**{field.name: figures[field.name] for field in dataclasses.fields(Score)})
        trial = Trial(label, recipe.spec, size, score, measured=True)
        self.trials.append(trial)
        return trial

    def _run(self, recipe: Recipe) -> dict[str, float]:
        job = self._job
        graph = job.quantize(recipe, self.moments, Ticker(lambda *_: None, 0))
        draft, manifest = job.writer.draft(graph, recipe)
        parity = rerun_probes(draft, job.measured, thresholds={}, k=NEIGHBOURS, num_threads=job.num_threads)
        draft.unlink()
        return {"size": float(job.size(graph, manifest)), **asdict(Score.of(parity))}

    def _beside_weights(self, front: Front) -> int:
        """Returns the bytes of a file that are not weights: those of the int8 file minus its weights."""
        known = next(trial for trial in self.trials if trial.label == "int8")
        weights = sum(next(c.size for c in choices if c.scheme.bits == 8) for choices in front.parts.values())
        return known.size - weights

    def _for_size(self, front: Front) -> dict[str, Recipe]:
        """Measures the best mixture under a size, a little smaller where the file comes out too large."""
        recipes: dict[str, Recipe] = {}
        aim = (self._budget.max_size or 0) - self._overhead - SLACK
        for _ in range(FILES_TRIED):
            mixture = front.at(aim)
            if mixture is None:
                # Measured all the same: it is the nearest that can be reached.
                mixture = front.at(front.smallest) or {}
            recipe = self._recipe(mixture)
            recipes[recipe.spec] = recipe
            excess = self._measure(AUTO, recipe).size + SLACK - (self._budget.max_size or 0)
            if excess <= 0 or front.size(mixture) <= front.smallest:
                break
            aim -= excess
        return recipes

    def _for_quality(self, front: Front) -> dict[str, Recipe]:
        """Looks along the front for the smallest mixture that keeps a quality, then proves it by its file."""
        low, high = (
            front.smallest,
            max(front.smallest + 1, front.size(front.reaching(float(front.least[-1])) or {})),
        )
        self._ticker.expect(HALVINGS)
        smallest, largest = low, high
        for _ in range(HALVINGS):
            middle = (low + high) // 2
            mixture = front.at(middle) or {}
            if self._budget.met(0, self._simulate(mixture)):
                high = middle
            else:
                low = middle
        recipes: dict[str, Recipe] = {}
        # The file decides: if it is worse than its simulation, a somewhat larger one is tried next.
        step = (largest - smallest) // 2**HALVINGS
        for more in range(FILES_TRIED):
            mixture = front.at(min(high + (2**more - 1) * step, largest)) or {}
            recipe = self._recipe(mixture)
            if recipe.spec in recipes:
                break
            recipes[recipe.spec] = recipe
            trial = self._measure(AUTO, recipe)
            if self._budget.met(trial.size, trial.score):
                break
        return recipes

    def _simulate(self, mixture: Mixture) -> Score:
        recipe = self._recipe(mixture)
        self._ticker(f"trying a mixture of {sum(scheme.bits for scheme in mixture.values())} bits")
        schemes = spread(self._parts, mixture)
        return self._remember(f"simulated {recipe.spec}", lambda: self._simulation.score(schemes))

    def _draw(self, front: Front) -> None:
        """Simulates mixtures of some sizes, so that the table and the plot show the front."""
        self._ticker.expect(FRONT_POINTS)
        int8 = next(trial for trial in self.trials if trial.label == "int8").size - self._overhead
        for point in range(FRONT_POINTS):
            mixture = front.at(front.smallest + (int8 - front.smallest) * point // (FRONT_POINTS - 1)) or {}
            score, size = self._simulate(mixture), front.size(mixture) + self._overhead
            self.trials.append(Trial("front", self._recipe(mixture).spec, size, score, measured=False))

    def _recipe(self, mixture: Mapping[str, Scheme]) -> Recipe:
        return recipe_of(placed(self._parts, mixture), mixture[TABLE], AUTO)

    def _refusal(self) -> BudgetError:
        measured = [trial for trial in self.trials if trial.measured]
        budget = self._budget
        if budget.max_size is not None:
            nearest = min(measured, key=lambda trial: trial.size)
        elif budget.min_cosine is not None:
            nearest = max(measured, key=lambda trial: trial.score.cosine)
        else:
            nearest = max(measured, key=lambda trial: trial.score.neighbours)
        return BudgetError(
            "no file fits the budget; nothing was written",
            got=f"nearest: {nearest.size} bytes ({nearest.size / 1e6:.2f} MB), mean cosine "
            f"{nearest.score.cosine:.5f}, {nearest.score.neighbours:.3f} of the neighbours in common, "
            f"recipe {nearest.recipe}",
            expected=str(budget),
            fix=f"loosen the budget, or take that file: --recipe '{nearest.recipe}'",
        )
