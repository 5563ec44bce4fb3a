"""Progress bars: on stderr, only on a terminal, only for what takes longer than a second."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

DELAY_SECONDS = 1.0
"""Work that ends sooner shows no bar."""

Advance = Callable[[int], object]


@contextmanager
def progress_bar(
    total: int | None, label: str, *, unit: str = "text", show: bool | None = None
) -> Iterator[Advance]:
    """Shows a bar while the block runs and removes it afterwards.

    Args:
        total: How many units there are; None if not known.
        label: What is being done.
        unit: What is counted.
        show: True shows it at once, wherever stderr goes; False never; None on a terminal, after a second.

    Yields:
        A function to call with the number of units just finished.
    """
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    wanted = on_terminal if show is None else show
    if not wanted:
        yield lambda _: None
        return
    # Imported here: most processes never draw a bar.
    from tqdm import tqdm  # noqa: PLC0415

    with tqdm(
        total=total, desc=label, unit=unit, file=sys.stderr, leave=False,
        dynamic_ncols=True, delay=0.0 if show else DELAY_SECONDS,
    ) as bar:  # fmt: skip
        yield bar.update
