"""Keeping the converters' own chatter from the user's terminal, and for the error message if one fails."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

KEPT_BYTES = 4000
"""How much of the captured output goes into an error message."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Swallows what the block, its C++ part included, writes to stdout and stderr.

    The converter, the quantizer and XLA print step logs, bars and deprecation notes; a user sees our
    progress bar. The recursion limit, which the converter raises beyond what the C stack bears, is put
    back. If the block raises, the end of what was swallowed is attached to the exception.
    Output of other threads in that time is swallowed too, which is why this belongs to no runtime code.
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
        # Where Python's streams are not those descriptors, as in a notebook, they are swallowed as well.
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
