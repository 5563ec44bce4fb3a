"""LiteRT's log: captured while LiteRT works, and read for what it says.

LiteRT prints its log from C and offers no way to switch it off. Here it is captured through the variables
`stderr` and `stdout` of the C library, which name the streams that C code prints to. The file descriptors
stay as they are: what Python, other processes and crash handlers write goes where it always goes. LiteRT's
lines are kept, for error messages and for what they say about accelerators. Lines of other C code that
prints at the same moment are passed on.

This needs glibc or macOS. With another C library LiteRT's lines stay visible and nothing is read from them.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence

_LOG_LINE = re.compile(
    rb"^(?:(?:INFO|WARNING|Warning|ERROR|VERBOSE|DEBUG|FATAL): |[IWEF]\d{4} [\d:.]+ +\d+ [\w.]+:\d+\] )"
)
"""How a line of LiteRT begins; the second form is that of its GPU delegate."""

_CONTINUATION = re.compile(
    "└|=== Source Location Trace|third_party/| +at |[A-Z0-9_]+: |[0-9]+ operations will run on ".encode()
)
"""How a line begins that belongs to the one before it. The last two say what a GPU refused."""

# Patterns that only accelerators need; `re` compiles them at first use.
_REFUSED = r"^([A-Z0-9_]+): (.+)$"
_DIVIDED = r"^(\d+) operations will run on the [GN]PU, and the remaining (\d+)"
_ADAPTER = r"Selected adapter: ([^,]+),.*?backend=(\w+), adapterType=(.+)$"
_ABSENCE = {
    "gpu": ("No adapters found", "GPU accelerator could not be loaded", "Couldn't load Vulkan"),
    "npu": ("NPU accelerator could not be loaded", "Failed to apply compiler plugins", "No compiler plugin"),
}
"""What LiteRT logs where there is no such accelerator, the cause last."""

_STREAM_LIMIT = 1 << 20
_VARIABLES = ("stderr", "stdout") if sys.platform == "linux" else ("__stderrp", "__stdoutp")

_lock = threading.RLock()


class Log:
    """What LiteRT printed during one call.

    Attributes:
        errors: Its error lines, without the label.
        lines: All its lines, as they were.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.lines: list[str] = []


class _Stream:
    """A stream of the C library that collects in memory what is printed to it.

    It is never closed: a thread that prints may hold it a moment longer than we do.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._taken = 0
        self._text, self._size = ctypes.c_void_p(), ctypes.c_size_t()
        library.open_memstream.restype = ctypes.c_void_p
        self.address = library.open_memstream(ctypes.byref(self._text), ctypes.byref(self._size))
        if not self.address:
            raise OSError("the C library cannot open a stream in memory")

    def take(self) -> bytes:
        """Returns what was printed since the last call."""
        self._flush()
        text = self._text.value
        content = ctypes.string_at(text, self._size.value)[self._taken :] if text else b""
        self._taken = self._size.value
        if self._taken > _STREAM_LIMIT:
            self._library.rewind(ctypes.c_void_p(self.address))
            self._flush()
            self._taken = 0
        return content

    def _flush(self) -> None:
        self._library.fflush(ctypes.c_void_p(self.address))


class _Streams:
    """The C library's two variables, and the streams that stand in for what they name."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        if sys.platform == "linux":
            _ = library.gnu_get_libc_version  # another C library may keep the variables in read-only memory
        self.variables = [ctypes.c_void_p.in_dll(library, name) for name in _VARIABLES]
        self.originals = [variable.value for variable in self.variables]
        self.streams = [_Stream(library) for _ in _VARIABLES]
        self.logs: list[Log] = []  # of the captures that are running, the innermost last
        self._library = library

    def pass_on(self, log: Log) -> None:
        """Adds LiteRT's lines to a log and prints all others where they belong."""
        for stream, original in zip(self.streams, self.originals, strict=True):
            if others := _sort(stream.take(), log):
                size = ctypes.c_size_t(len(others))
                self._library.fwrite(others, ctypes.c_size_t(1), size, ctypes.c_void_p(original))


_streams: _Streams | None = None
_unavailable = False


@contextlib.contextmanager
def captured_log() -> Iterator[Log]:
    """Captures what C code prints; on leaving, passes on every line that is not LiteRT's own.

    Use it in a thread that no interrupt reaches (`edge_embed.engine.uninterrupted`). Captures of several
    threads wait for each other, and a fork waits until none is running.
    """
    log = Log()
    with _lock:
        streams = _available()
        if streams is None:
            yield log
            return
        # What was printed before belongs to the capture around this one, or a thread printed it late.
        streams.pass_on(streams.logs[-1] if streams.logs else Log())
        streams.logs.append(log)
        before = [variable.value for variable in streams.variables]
        for variable, stream in zip(streams.variables, streams.streams, strict=True):
            variable.value = stream.address
        try:
            yield log
        finally:
            for variable, address in zip(streams.variables, before, strict=True):
                variable.value = address
            streams.logs.pop()
            streams.pass_on(log)


def silence_exit() -> None:
    """Hides what LiteRT prints when the process ends. With an accelerator its static destructors do."""

    @atexit.register
    def _silence() -> None:
        if streams := _available():
            streams.variables[0].value = streams.streams[0].address


def refused_operators(lines: Sequence[str]) -> list[str]:
    """Returns the operators that an accelerator refused, with the reasons, each reason once."""
    reasons = {
        f"{found[1]}: {_short(found[2])}": None for line in lines if (found := re.match(_REFUSED, line))
    }
    return [reason for reason in reasons if not reason.startswith(("INFO:", "WARNING:", "ERROR:"))]


def accelerated_operators(lines: Sequence[str]) -> list[int]:
    """Returns how many operators each part of the graph runs on an accelerator, as far as LiteRT says it."""
    return [int(found[1]) for line in lines if (found := re.match(_DIVIDED, line))]


def selected_adapter(lines: Sequence[str]) -> tuple[str, bool] | None:
    """Returns the name of the GPU that LiteRT took, and whether it is a program on the CPU."""
    found = [match for line in lines if (match := re.search(_ADAPTER, line))]
    return (f"{found[-1][1]}, {found[-1][2]}", "CPU" in found[-1][3]) if found else None


def absence(lines: Sequence[str], accelerator: str) -> str | None:
    """Returns the line that says that there is no such accelerator, if one does.

    Args:
        lines: LiteRT's log.
        accelerator: "gpu" or "npu".
    """
    found = (line for sign in reversed(_ABSENCE[accelerator]) for line in lines if sign in line)
    return next((re.sub(r"^[A-Za-z]+: (\[[^]]*\] )?", "", line) for line in found), None)


def _short(reason: str) -> str:
    # LiteRT adds the tensor's name, which differs from layer to layer.
    return re.sub(r"\.? \S*/\S*$", "", reason).rstrip(". ")


def _available() -> _Streams | None:
    global _streams, _unavailable  # noqa: PLW0603 - one pair per process
    if _streams is None and not _unavailable:
        try:
            _streams = _Streams()
        except (AttributeError, OSError, TypeError, ValueError):  # another kind of C library
            _unavailable = True
    return _streams


def _sort(content: bytes, log: Log) -> bytes:
    """Adds LiteRT's lines to a log and returns the others."""
    others, belongs = [], False
    for line in content.splitlines(keepends=True):
        label = _LOG_LINE.match(line)
        belongs = bool(label) or (belongs and (not line.strip() or bool(_CONTINUATION.match(line))))
        if not belongs:
            others.append(line)
            continue
        text = line.decode("utf-8", "replace").rstrip()
        log.lines.append(text)
        if label and (label.group().startswith(b"ERROR") or re.match(rb"E\d", label.group())):
            log.errors.append(text[label.end() :].strip())
    return b"".join(others)


def _before_fork() -> None:
    _lock.acquire()  # a fork waits until no capture is running


def _after_fork_in_parent() -> None:
    _lock.release()


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - an interrupt may have ended the wait for the lock of the parent's thread
    _lock = threading.RLock()
    if _streams is not None:
        _streams.logs.clear()
        for variable, address in zip(_streams.variables, _streams.originals, strict=True):
            variable.value = address


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
