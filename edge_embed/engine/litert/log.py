"""Quiet: standard error, and where needed standard output, held back while LiteRT speaks.

LiteRT writes its log to standard error from C++ and offers no switch. So its calls run with that
descriptor captured: its own lines are kept, for error messages and for what they tell of accelerators;
everybody else's are passed on.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

_LOG_LINE = re.compile(
    rb"^(?:(?:INFO|WARNING|Warning|ERROR|VERBOSE|DEBUG|FATAL): |[IWEF]\d{4} [\d:.]+ +\d+ [\w.]+:\d+\] )"
)
"""How a line of LiteRT begins; the second form is that of its GPU delegate."""

_CONTINUATION = re.compile(
    "└|=== Source Location Trace|third_party/| +at |[A-Z0-9_]+: |[0-9]+ operations will run on ".encode()
)
"""How a line begins that belongs to the one before it. The last two say what a GPU refused."""

_capture_lock = threading.RLock()


class Captured:
    """What LiteRT said while its output was captured.

    Attributes:
        errors: Its error lines, without the label.
        lines: All its lines, as they were.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.lines: list[str] = []


@contextlib.contextmanager
def quiet_stderr() -> Iterator[Captured]:
    """Captures file descriptor 2; on leaving, passes on every line that is not LiteRT's own.

    Descriptors belong to the whole process, so what another thread writes meanwhile arrives late but is
    not lost. A fork waits until no capture is running.
    """
    captured = Captured()
    with _quiet(2, sys.stderr, captured):
        yield captured


@contextlib.contextmanager
def quiet_output() -> Iterator[Captured]:
    """Captures file descriptors 1 and 2 in the same way: the GPU delegate writes to both."""
    import ctypes  # numpy has it loaded already

    captured = Captured()
    with _quiet(2, sys.stderr, captured), _quiet(1, sys.stdout, captured):
        try:
            yield captured
        finally:
            with contextlib.suppress(AttributeError, OSError, TypeError):  # another kind of libc
                ctypes.CDLL(None).fflush(None)  # or its buffer brings the lines out later


@contextlib.contextmanager
def _quiet(descriptor: int, stream: TextIO | None, captured: Captured) -> Iterator[None]:
    with _capture_lock:
        try:
            saved = os.dup(descriptor)
        except OSError:  # a daemon without a standard error: nothing to keep quiet
            yield
            return
        sink = _anonymous_file()
        try:
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):  # closed by its owner
                    stream.flush()
            os.dup2(sink, descriptor)
            try:
                yield
            finally:
                os.dup2(saved, descriptor)
                _forward(_content(sink), saved, captured)
        finally:
            os.close(sink)
            os.close(saved)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("litert-log")
    import tempfile  # 20 ms that only systems without memfd pay

    with tempfile.TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())


def _content(descriptor: int) -> bytes:
    size = os.lseek(descriptor, 0, os.SEEK_END)
    os.lseek(descriptor, 0, os.SEEK_SET)
    chunks = []
    while size > 0 and (chunk := os.read(descriptor, size)):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def _forward(content: bytes, descriptor: int, captured: Captured) -> None:
    ours = False
    for line in content.splitlines(keepends=True):
        label = _LOG_LINE.match(line)
        ours = bool(label) or (ours and (not line.strip() or bool(_CONTINUATION.match(line))))
        if ours:
            text = line.decode("utf-8", "replace").rstrip()
            captured.lines.append(text)
            if label and (label.group().startswith(b"ERROR") or re.match(rb"E\d", label.group())):
                captured.errors.append(text[label.end() :].strip())
        else:
            with contextlib.suppress(OSError):  # a reader that went away takes only its own lines with it
                os.write(descriptor, line)


if hasattr(os, "register_at_fork"):
    # A fork waits until no capture is running.
    os.register_at_fork(
        before=_capture_lock.acquire,
        after_in_parent=_capture_lock.release,
        after_in_child=_capture_lock.release,
    )
