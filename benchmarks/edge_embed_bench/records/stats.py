"""Statistics of samples: median, percentiles, and the ratio of two medians with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
"""Bootstrap draws. With this number, the ends of a 95 % interval vary much less than the interval is wide."""

QUANTILES = 500
"""How many values a report keeps of a long series."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Ratio:
    """The ratio of two medians, new over old, with its bootstrap interval."""

    value: float
    low: float
    high: float


def percentile(samples: Sequence[float], percent: float) -> float:
    """Returns a percentile, by linear interpolation between the neighbouring samples."""
    return float(np.percentile(np.asarray(samples, dtype=np.float64), percent))


def median(samples: Sequence[float]) -> float:
    """Returns the median."""
    return percentile(samples, 50)


def spread(samples: Sequence[float], form: str) -> str:
    """Returns the median with the lowest and the highest sample, each in a format such as ".2f"."""
    return f"{median(samples):{form}} ({min(samples):{form}} to {max(samples):{form}})"


def quantiles(samples: Sequence[float]) -> list[float]:
    """Returns what a report keeps of samples: all of a few, else quantiles that stand for equal shares."""
    if len(samples) <= QUANTILES:
        return list(samples)
    return [percentile(samples, 100 * (place + 0.5) / QUANTILES) for place in range(QUANTILES)]


def median_ratio(old: Sequence[float], new: Sequence[float], *, seed: int = 0) -> Ratio:
    """Compares two series of samples by their medians.

    The interval comes from a circular block bootstrap. The machine affects neighbouring samples in the same
    way, so they are drawn in blocks of about the cube root of their number (Künsch 1989; Politis and Romano
    1992), each series separately.

    Args:
        old: Samples in the order in which they were taken.
        new: The same.
        seed: The seed of the draws. The same samples give the same interval.
    """
    generator = np.random.default_rng(seed)
    drawn = _medians(np.asarray(new, dtype=np.float64), generator) / _medians(
        np.asarray(old, dtype=np.float64), generator
    )
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Ratio(median(new) / median(old), float(low), float(high))


def _medians(samples: npt.NDArray[np.float64], generator: np.random.Generator) -> npt.NDArray[np.float64]:
    count = len(samples)
    block = max(1, round(count ** (1 / 3)))
    starts = generator.integers(0, count, (RESAMPLES, -(-count // block)))
    places = (starts[:, :, None] + np.arange(block)).reshape(RESAMPLES, -1)[:, :count] % count
    result: npt.NDArray[np.float64] = np.median(samples[places], axis=1)
    return result
