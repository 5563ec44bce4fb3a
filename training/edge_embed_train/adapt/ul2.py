"""UL2's tasks (arXiv 2205.05131): spans of a text are taken out and have to be written again.

T5Gemma mixes five tasks 1:1:1:1:4: spans that are short or long, few or many, and the end of the text
after its beginning. The lengths and rates here lie in UL2's ranges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Task:
    """One way to corrupt a text.

    Attributes:
        span: Mean length of a span in tokens; 0 for one span at the end, the prefix task.
        rate: Share of the tokens that are taken out.
        weight: Share in the mixture.
    """

    span: float
    rate: float
    weight: float


TASKS = (
    Task(span=3, rate=0.15, weight=1),
    Task(span=12, rate=0.5, weight=1),
    Task(span=32, rate=0.15, weight=1),
    Task(span=32, rate=0.5, weight=1),
    Task(span=0, rate=0.75, weight=4),
)


def draw_task(generator: np.random.Generator, tasks: Sequence[Task] = TASKS) -> Task:
    """Draws a task by the weights of the mixture."""
    weights = np.asarray([task.weight for task in tasks])
    return tasks[int(generator.choice(len(tasks), p=weights / weights.sum()))]


def corrupt(
    ids: Sequence[int], task: Task, sentinels: Sequence[int], end: int, generator: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Returns what the encoder reads and what the decoder has to write.

    Every span is replaced by a sentinel; the target is each sentinel and its span. In the prefix task the
    target is the text's end alone.

    Args:
        ids: Two or more tokens.
        task: The task.
        sentinels: Ids that stand for spans, in order.
        end: The id that ends a target.
        generator: For the places of the spans.
    """
    tokens = list(ids)
    count = min(max(1, round(task.rate * len(tokens))), len(tokens) - 1)
    if not task.span:
        at = len(tokens) - count
        return tokens[:at], [*tokens[at:], end]
    spans = min(max(1, round(count / task.span)), len(sentinels), count, len(tokens) - count)
    taken = _parts(count, spans, generator)
    # One token or more before each span, so that no span follows another; any number after the last.
    kept = _parts(len(tokens) - count + 1, spans + 1, generator)
    inputs: list[int] = []
    target: list[int] = []
    place = 0
    for keep, take, sentinel in zip(kept[:-1], taken, sentinels, strict=False):
        inputs += [*tokens[place : place + keep], sentinel]
        target += [sentinel, *tokens[place + keep : place + keep + take]]
        place += keep + take
    return [*inputs, *tokens[place:]], [*target, end]


def _parts(total: int, count: int, generator: np.random.Generator) -> list[int]:
    """Returns random whole numbers of at least 1 that add up to a total."""
    drawn = generator.choice(total - 1, count - 1, replace=False) if count > 1 else np.empty(0, int)
    edges = [0, *(int(cut) + 1 for cut in np.sort(drawn)), total]
    return [b - a for a, b in pairwise(edges)]
