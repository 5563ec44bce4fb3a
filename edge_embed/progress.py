"""Progress bars: on stderr, only on a terminal, only for what takes longer than a second."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

DELAY_SECONDS = 1.0
"""Work that ends sooner shows no bar."""

Advance = Callable[[int], object]


class Bar:
    """What a block says about its progress. Call it with the number of units just finished.

    Args:
        bar: The bar of tqdm that shows it; None shows nothing.
    """

    def __init__(self, bar: Any = None) -> None:
        self._bar = bar

    def __call__(self, units: int) -> None:
        """Counts units that have just been finished."""
        if self._bar is not None:
            self._bar.update(units)

    def begin(self, total: int | None, done: int) -> None:
        """Says how many units there are, if that is known, and how many the rate does not count.

        Args:
            total: All units; None if not known.
            done: Units that were finished before.
        """
        if self._bar is not None:
            self._bar.total = total
            self._bar.initial = self._bar.n = self._bar.last_print_n = done
            self._bar.refresh()


@contextmanager
def progress_bar(
    total: int | None, label: str, *, unit: str = "text", show: bool | None = None
) -> Iterator[Bar]:
    """Shows a bar while the block runs and removes it afterwards.

    Args:
        total: How many units there are; None if not known.
        label: What is being done.
        unit: What is counted.
        show: True shows it at once, even if stderr is not a terminal. False never shows it. None shows it
            on a terminal, after a second.

    Yields:
        What is called with the number of units just finished.
    """
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    wanted = on_terminal if show is None else show
    if not wanted:
        yield Bar()
        return
    # Imported here: most processes never draw a bar.
    from tqdm import tqdm

    with tqdm(
        total=total,
        desc=label,
        unit=unit,
        file=sys.stderr,
        leave=False,
        dynamic_ncols=True,
        delay=0.0 if show else DELAY_SECONDS,
    ) as bar:
        yield Bar(bar)


Step = Callable[[str, int, int], None]
"""Reports the name of the step that begins, how many are done, and how many there are in all."""


@contextmanager
def step_bar(label: str, *, show: bool | None = None) -> Iterator[Step]:
    """Shows a bar over named steps while the block runs. Arguments as for `progress_bar`.

    Yields:
        A function to call as each step begins.
    """
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    if not (on_terminal if show is None else show):
        yield lambda step, done, total: None
        return
    from tqdm import tqdm  # most processes never draw a bar

    with tqdm(
        total=1,
        desc=label,
        file=sys.stderr,
        leave=False,
        dynamic_ncols=True,
        bar_format="{desc}: {percentage:3.0f}% |{bar}| {elapsed} {postfix}",
    ) as bar:

        def begin(step: str, done: int, total: int) -> None:
            bar.total, bar.n = max(total, 1), done
            bar.set_postfix_str(step)

        yield begin


class Ticker:
    """Counts steps for a progress callback.

    Args:
        report: What the user passed.
        total: Steps known so far.
    """

    def __init__(self, report: Step, total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def expect(self, more: int) -> None:
        """Adds steps that have become known."""
        self._total += more

    def __call__(self, step: str) -> None:
        """Begins a step."""
        self._report(step, self._done, self._total)
        self._done += 1
