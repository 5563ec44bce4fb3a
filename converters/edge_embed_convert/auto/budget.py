"""Budget: what a search must keep to, and the records of what it tried."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from edge_embed.errors import InputError
from edge_embed.model_file.manifest import Parity
from edge_embed_convert.pipeline import Conversion
from edge_embed_convert.recipes.grammar import AUTO

NEIGHBOURS = 10
"""How many nearest neighbours of each text are compared: the ten that a search shows."""

FIXED = ("int8", "e4.octav_a8_f8_p8", "mixed", "int4-block32", "int4", "e4.octav_a4.octav_f4.octav_p8")
"""Fixed recipes that are measured beside what the search finds, from the largest file to the smallest."""


@dataclass(frozen=True)
class Score:
    """Agreement with the source over the measuring texts.

    Attributes:
        cosine: Mean cosine.
        lowest: Lowest cosine.
        neighbours: Share of the ten nearest neighbours in common.
    """

    cosine: float
    lowest: float
    neighbours: float

    @classmethod
    def of(cls, parity: Parity) -> Score:
        """Takes the figures out of a report."""
        return cls(parity.cosine_mean, parity.cosine_min, parity.neighbours)


@dataclass(frozen=True)
class Budget:
    """What the file must keep to; exactly one of these.

    Attributes:
        max_size: Bytes of the whole file at most.
        min_cosine: Mean cosine to the source at least, over the measuring texts.
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
                f"the recipe {AUTO} needs exactly one budget",
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
        """Returns whether a file is within the budget."""
        if self.max_size is not None:
            return size <= self.max_size
        if self.min_cosine is not None:
            return score.cosine >= self.min_cosine
        return 1 - score.neighbours <= (self.max_loss or 0.0)

    def better(self, trial: Trial) -> tuple[float, float]:
        """Returns the value that is to be as large as possible, among files within the budget."""
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
        score: Agreement over the measuring texts.
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
        budget: The budget.
        winner: The trial of the file.
        trials: Every recipe that was tried, the winner among them.
        parts: The loss of each part in each scheme: 1 minus the mean cosine.
        texts: How many measuring texts there were, and which.
        reused: How many measurements were read from the journal.
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
