"""Hides what other libraries print and log, so that the user sees our own progress bar and errors."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

KEPT_BYTES = 4000
"""How many bytes of the hidden output go into an error message."""


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Hides what the block, including its C++ code, writes to stdout and stderr.

    The converter, the quantizer and XLA print step logs, bars and deprecation notes; the user sees our own
    progress bar. The recursion limit is restored, because the converter raises it beyond what the C stack
    can hold. If the block raises an exception, the end of the hidden output is attached to it.
    Output of other threads is hidden during that time too, so runtime code must not use this.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    previous, recursion = logging.root.manager.disable, sys.getrecursionlimit()
    with tempfile.TemporaryFile() as sink, contextlib.ExitStack() as stack:
        for descriptor in (1, 2):
            saved = os.dup(descriptor)
            stack.callback(os.close, saved)
            stack.callback(os.dup2, saved, descriptor)
            os.dup2(sink.fileno(), descriptor)
        # In a notebook, Python's streams are not those descriptors; they are hidden as well.
        text = stack.enter_context(
            open(sink.fileno(), "w", encoding="utf-8", errors="replace", closefd=False)
        )
        stack.enter_context(contextlib.redirect_stdout(text))
        stack.enter_context(contextlib.redirect_stderr(text))
        stack.callback(logging.disable, previous)
        stack.callback(sys.setrecursionlimit, recursion)
        stack.callback(sys.stderr.flush)
        stack.callback(sys.stdout.flush)
        logging.disable(logging.WARNING)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except Exception as error:
            sys.stderr.flush()
            sink.seek(max(0, os.fstat(sink.fileno()).st_size - KEPT_BYTES))
            captured = sink.read().decode("utf-8", "replace").strip()
            if captured and sys.version_info >= (3, 11):
                error.add_note(captured)
            raise


@contextlib.contextmanager
def transformers_silenced() -> Iterator[None]:
    """Hides the log messages and progress bars of transformers while the block runs, but not its errors."""
    from transformers.utils import logging as hf_logging

    level = hf_logging.get_verbosity()
    bars = hf_logging.is_progress_bar_enabled()
    disabled = logging.root.manager.disable
    hf_logging.set_verbosity(logging.ERROR)
    logging.disable(logging.WARNING)  # what it imports on the way logs to others
    hf_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()
