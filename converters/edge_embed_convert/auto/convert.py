"""Auto: the smallest file that keeps a quality, or the best that fits a size, found by measuring.

Each part of the model is stored in each way, alone, in a simulation; a knapsack puts the parts together; the
few mixtures that matter are written, run by the real runtime and compared with the source, on texts that
nothing was fitted to. Fixed recipes are measured beside them, and win where they are better.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from typing_extensions import Unpack

from edge_embed.engine.weight_cache import default_directory
from edge_embed.errors import BudgetError, InputError, RecipeError
from edge_embed.progress import Step, Ticker
from edge_embed.proof.rerun import rerun_probes
from edge_embed_convert.auto.journal import Journal
from edge_embed_convert.auto.parts import Part, Sensitivity, parts_of, placed, spread
from edge_embed_convert.auto.search import Front, Mixture, recipe_of, solve
from edge_embed_convert.auto.simulate import NEIGHBOURS, TABLE, Score, Simulation
from edge_embed_convert.graph.export import check_buckets, default_buckets
from edge_embed_convert.graph.rewrite import EmbeddingModel
from edge_embed_convert.pipeline import FIXED_STEPS, Conversion, save, target_path, workspace
from edge_embed_convert.prepare import Prepared, prepare
from edge_embed_convert.recipes.calibrate.rounding import Moments, collect_moments
from edge_embed_convert.recipes.calibrate.texts import Calibration
from edge_embed_convert.recipes.grammar import AUTO, Recipe
from edge_embed_convert.source.checkpoint import CheckpointOptions, load

FIXED = ("int8", "e4.octav_a8_f8_p8", "mixed", "int4-block32", "int4", "e4.octav_a4.octav_f4.octav_p8")
"""Fixed recipes that are measured beside what the search finds, from the largest file to the smallest."""

FRONT_POINTS = 6
"""How many sizes between the smallest and the largest mixture are simulated for the plot."""

FILES_TRIED = 5
"""How many files a search for a quality writes at most before it gives up: each is nearer than the last."""

HALVINGS = 7
"""Steps of the search along the front: a hundredth of its length."""

SLACK = 256
"""Bytes left free under a size: the digits of the report in the manifest come last."""

REVISION = 2
"""Part of a journal's name; raised when figures come out otherwise."""


@dataclass(frozen=True)
class Budget:
    """What the file must keep to; exactly one of these.

    Attributes:
        max_size: Bytes of the whole file at most.
        min_cosine: Mean cosine to the source at least, over the calibration texts that judge.
        max_loss: Share of the ten nearest neighbours lost at most, over the same texts.
    """

    max_size: int | None = None
    min_cosine: float | None = None
    max_loss: float | None = None

    def __post_init__(self) -> None:
        given = {key: value for key, value in asdict(self).items() if value is not None}
        options = "--max-size, --min-cosine, --max-loss"
        if len(given) != 1:
            raise InputError(
                f"the recipe {AUTO} needs one budget",
                got=" and ".join(f"{key} {value}" for key, value in given.items()) or "none",
                expected=f"exactly one of {options}",
            )
        ((key, value),) = given.items()
        if not (value > 0 if key == "max_size" else 0 < value < 1):
            raise InputError(
                f"{key} is out of range",
                got=str(value),
                expected="a number of bytes" if key == "max_size" else "a number between 0 and 1",
            )

    def met(self, size: int, score: Score) -> bool:
        """Tells whether a file keeps to it."""
        if self.max_size is not None:
            return size <= self.max_size
        if self.min_cosine is not None:
            return score.cosine >= self.min_cosine
        return 1 - score.neighbours <= (self.max_loss or 0.0)

    def better(self, trial: Trial) -> tuple[float, float]:
        """Returns what to choose the greatest of, among files that keep to it."""
        by_quality = (trial.score.cosine, -float(trial.size))
        return by_quality if self.max_size is not None else (-float(trial.size), trial.score.cosine)

    def __str__(self) -> str:
        if self.max_size is not None:
            return f"at most {self.max_size} bytes ({self.max_size / 1e6:.2f} MB)"
        if self.min_cosine is not None:
            return f"mean cosine at least {self.min_cosine:g}"
        return f"at most {self.max_loss:g} of the {NEIGHBOURS} nearest neighbours lost"


@dataclass(frozen=True)
class Trial:
    """One recipe and what it gives.

    Attributes:
        label: `auto`, `front`, or the fixed recipe's name.
        recipe: The recipe as the grammar spells it.
        size: Bytes of the whole file; predicted where it was only simulated.
        score: Agreement over the texts that judge.
        measured: Whether a file was written and run, or the arithmetic simulated.
    """

    label: str
    recipe: str
    size: int
    score: Score
    measured: bool


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        conversion: The file.
        budget: What it had to keep to.
        winner: Its trial.
        trials: Every recipe that was tried, the winner among them.
        parts: The loss of each part at each scheme, 1 less the mean cosine.
        texts: How many texts judged, and which texts they are.
        reused: Measurements that came out of the journal.
    """

    conversion: Conversion
    budget: Budget
    winner: Trial
    trials: tuple[Trial, ...]
    parts: dict[str, dict[str, float]]
    texts: str
    reused: int

    def beaten_by(self) -> list[Trial]:
        """Returns the fixed recipes that are neither larger nor worse than what was written."""
        return [
            t for t in self.trials if t.label in FIXED and t != self.winner and _dominates(t, self.winner)
        ]


def _dominates(one: Trial, other: Trial) -> bool:
    return one.size <= other.size and one.score.cosine >= other.score.cosine


def convert_auto(
    source: str | Path,
    output: str | Path | None = None,
    *,
    budget: Budget,
    calibration: str | Path | None = None,
    buckets: Sequence[int] | None = None,
    name: str | None = None,
    num_threads: int | None = None,
    journals: Path | None = None,
    progress: Step = lambda step, done, total: None,
    **options: Unpack[CheckpointOptions],
) -> Search:
    """Searches a recipe for a budget and writes its file.

    Args:
        source: As for `pipeline.convert`, and so `output`, `buckets`, `name` and `num_threads`.
        output: The file to write, or a directory to write `NAME.auto.tflite` into.
        budget: What the file must keep to.
        calibration: Text file, one text per line; by default texts of our own.
        buckets: Input lengths.
        name: What the manifest calls the model.
        num_threads: Threads for the runtime while measuring.
        journals: Where journals are kept; by default below the user's cache directory.
        progress: Called as each step begins.
        **options: What the checkpoint leaves open.

    Raises:
        BudgetError: If no file keeps to the budget; with the nearest that was reached.
        InputError: If the calibration texts cannot be used.
        ConversionError: As `pipeline.convert`.
    """
    texts = Calibration.read(calibration)
    ticker = Ticker(progress, FIXED_STEPS)
    ticker("reading the checkpoint")
    checkpoint = load(source, **options)
    lengths = (
        default_buckets(checkpoint.max_tokens)
        if buckets is None
        else check_buckets(buckets, checkpoint.max_tokens)
    )
    label = name or checkpoint.id.rsplit("/", 1)[-1]
    target = target_path(output, f"{label}.{AUTO}.tflite")
    with workspace(target) as scratch:
        prepared = prepare(
            checkpoint,
            lengths,
            label,
            Path(scratch),
            ticker,
            calibration=texts,
            judged=True,
            num_threads=num_threads,
        )
        cache = default_directory()
        directory = journals or (None if cache is None else cache / "auto")
        facts = {
            "revision": REVISION,
            "source": prepared.blank.source.sha256,
            "texts": texts.origin,
            "config": checkpoint.config,
            "buckets": lengths,
            "tools": prepared.blank.tools,
            "options": {key: str(value) for key, value in sorted(options.items())},
        }
        searcher = _Searcher(prepared, Journal(directory, facts), budget, ticker)
        winner, recipe = searcher.run()
        graph = searcher.graph(recipe)
        conversion = save(prepared, graph, recipe, target, ticker)
    return Search(
        conversion,
        budget,
        winner,
        tuple(searcher.trials),
        searcher.losses,
        f"{len(prepared.measured)} texts of {texts.origin.split()[0]}",
        searcher.journal.reused,
    )


class _Searcher:
    """The steps of one search."""

    def __init__(self, prepared: Prepared, journal: Journal, budget: Budget, ticker: Ticker) -> None:
        self.journal, self.trials = journal, list[Trial]()
        self.losses: dict[str, dict[str, float]] = {}
        self._prepared, self._budget, self._ticker = prepared, budget, ticker
        self._model: EmbeddingModel = prepared.model()
        self._moments: Moments = prepared.moments(self._model, lambda _: True, ticker)
        self._simulation = Simulation(self._model, self._moments, prepared.measured)
        self._parts: list[Part] = parts_of(self._model)
        self._names = prepared.checkpoint.family.recipes
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

    def graph(self, recipe: Recipe) -> bytes:
        """Quantizes the float32 graph to a recipe."""
        return self._prepared.quantize(recipe, self._ticker, self._model, self._moments)

    def _choices(self) -> dict[str, list]:  # type: ignore[type-arg]
        tokens = [probe.tokens for probe in self._prepared.measured]
        self._ticker("running the texts that judge")
        sensitivity = Sensitivity(self._simulation, collect_moments(self._model, tokens), self._remember)
        self._ticker.expect(3 * len(self._parts))
        found = {}
        for part in self._parts:
            choices = sensitivity.choices(part, lambda what: self._ticker(f"trying {what}"))
            found[part.name] = choices
            self.losses[part.name] = {str(choice.scheme): choice.loss for choice in choices}
        return found

    def _remember(self, trial: str, measure: Callable[[], Score]) -> Score:
        return Score(**self.journal.remember(trial, lambda: asdict(measure())))

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
        """Writes a file, runs it over the texts that judge, and notes what it gives."""
        self._ticker(f"measuring {label}")
        figures = self.journal.remember(f"file {recipe.spec}", lambda: self._run(recipe))
        size = int(figures["size"])
        score = Score(**{field.name: figures[field.name] for field in dataclasses.fields(Score)})
        trial = Trial(label, recipe.spec, size, score, measured=True)
        self.trials.append(trial)
        return trial

    def _run(self, recipe: Recipe) -> dict[str, float]:
        prepared = self._prepared
        graph = prepared.quantize(recipe, Ticker(lambda *_: None, 0), self._model, self._moments)
        draft, manifest = prepared.draft(graph, recipe)
        parity = rerun_probes(
            draft, prepared.measured, thresholds={}, k=NEIGHBOURS, num_threads=prepared.num_threads
        )
        draft.unlink()
        complete = prepared.finished(graph, replace(manifest, parity=prepared.exact))
        size = complete.stat().st_size
        complete.unlink()
        return {"size": float(size), **asdict(Score.of(parity))}

    def _beside_weights(self, front: Front) -> int:
        """Returns the bytes of a file that are no weights: those of int8 less what its weights take."""
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
        # The file is the judge: where it falls short of the simulation, a somewhat larger one is next.
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

    def _recipe(self, mixture: Mapping[str, object]) -> Recipe:
        schemes = placed(self._parts, mixture)  # type: ignore[arg-type]
        return recipe_of(schemes, mixture[TABLE], AUTO)  # type: ignore[arg-type]

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
            "no file keeps to the budget; nothing was written",
            got=f"nearest: {nearest.size} bytes ({nearest.size / 1e6:.2f} MB), mean cosine "
            f"{nearest.score.cosine:.5f}, {nearest.score.neighbours:.3f} of the neighbours in common, "
            f"recipe {nearest.recipe}",
            expected=str(budget),
            fix=f"loosen the budget, or take that file: --recipe '{nearest.recipe}'",
        )
