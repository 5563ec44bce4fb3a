"""Hides the log messages and progress bars of libraries. Our own errors and metrics are shown."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

NAMES = ("sentence_transformers", "transformers", "accelerate")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Shows only errors of the libraries while the block runs."""
    from transformers.utils import logging as bars

    loggers = [logging.getLogger(name) for name in NAMES]
    shown = bars.is_progress_bar_enabled()
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
