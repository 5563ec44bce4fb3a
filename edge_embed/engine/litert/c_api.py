"""LiteRT's C interface, called through ctypes: the graph of one signature, compiled and run.

LiteRT's Python wrapper takes a model as a path or as `bytes`, compiles all its signatures at once and holds
Python's global lock while one runs. Its C library takes any memory. So a graph can be a private mapping of
the file that holds only one signature (`flatbuffer.keep_only`), compiled when a text of its length comes;
other threads run meanwhile; and less than half of the code is loaded. The interface is that of LiteRT 2.3
(its headers are litert/c/*.h). LiteRT does not promise to keep it: `python_api` runs files on other versions.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Sequence
from ctypes import POINTER, byref, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_embed.engine.litert.calls import GraphClosedError, LiteRtError
from edge_embed.engine.litert.installed import cannot_be_loaded, package_directory
from edge_embed.engine.uninterrupted import in_one_step

_LIBRARY = "libLiteRt.dylib" if sys.platform == "darwin" else "libLiteRt.so"

# Enumerators of litert_common.h, litert_any.h, litert_environment_options.h, litert_model_types.h.
_CPU = 1
_ANY_INT = 2
_AUTO_REGISTER_ACCELERATORS, _MIN_LOGGER_SEVERITY = 24, 25
_SEVERITY_ERROR = 3
_FLOAT32, _INT32 = 1, 2
_STATUS = {
    1: "invalid argument",
    2: "out of memory",
    3: "runtime failure",
    4: "missing tensor",
    5: "unsupported",
    6: "not found",
    8: "wrong version",
    500: "file error",
    501: "invalid flatbuffer",
    1000: "compilation failed",
}

_ALIGNMENT = 64  # LITERT_HOST_MEMORY_BUFFER_ALIGNMENT
_OPTIONS_OF_THE_CPU = b"xnnpack"
"""The name under which LiteRT finds the options of the CPU, which are a text in TOML."""

_library: Any = None
_environment: c_void_p | None = None


class _EnvironmentOption(ctypes.Structure):
    _fields_ = (("tag", c_int), ("kind", c_int64), ("value", c_int64))


class _TensorType(ctypes.Structure):
    # The rank's 32 bits also hold a flag for strides, which are not used.
    _fields_ = (
        ("element", c_int),
        ("rank", c_uint32),
        ("dimensions", c_int32 * 8),
        ("strides", c_uint32 * 8),
    )


class Graph:
    """One signature's graph, compiled for the CPU.

    Several threads may run it; one waits for the other. An interrupt during a run leaves it usable.

    Args:
        content: Writable memory with a flatbuffer whose only signature takes int32 ``[1, length]`` and gives
            float32 ``[1, dimension]``. It is kept for as long as the graph lives.
        length: Tokens that the graph takes.
        dimension: Numbers that it gives.
        num_threads: Threads of the XNNPACK delegate.
        weight_cache: A file for packed weights, made again if it is missing or damaged.

    Raises:
        LiteRtError: If LiteRT refuses the flatbuffer or cannot compile it.
        RuntimeFailure: If LiteRT is missing.
    """

    def __init__(
        self, content: Any, length: int, dimension: int, num_threads: int, weight_cache: str
    ) -> None:
        self._c = library()
        self._content: Any = (ctypes.c_char * len(content)).from_buffer(content)
        self._model, self._compiled = c_void_p(), c_void_p()
        self._buffers: list[c_void_p] = []
        self._tokens, self._vector = _aligned(length, np.int32), _aligned(dimension, np.float32)
        self._lock = threading.Lock()
        try:
            self._compile(num_threads, weight_cache)
            inputs, outputs = self._buffer(self._tokens, _INT32), self._buffer(self._vector, _FLOAT32)
        except BaseException:
            self.close()
            raise
        self._run = partial(self._c.LiteRtRunCompiledModel, self._compiled, 0, 1, inputs, 1, outputs)

    def run(self, ids: Sequence[int], pad_id: int) -> npt.NDArray[np.float32]:
        """Runs the graph on token ids, padded to its length.

        Python's global lock is released meanwhile.

        Returns:
            The embedding, shape ``(dimension,)``.

        Raises:
            GraphClosedError: If the graph was closed.
            LiteRtError: If LiteRT fails.
        """
        tokens = np.empty(self._tokens.shape, np.int32)
        tokens[: len(ids)], tokens[len(ids) :] = ids, pad_id
        vector = np.empty(self._vector.shape, np.float32)
        # None of these steps can fail, so whoever takes the lock gives it back.
        status = in_one_step(
            self._lock.acquire,
            partial(self._tokens.__setitem__, ..., tokens),
            self._run,
            partial(vector.__setitem__, ..., self._vector),
            self._lock.release,
        )[2]
        if status and self.closed:
            raise GraphClosedError("the graph is closed")
        check_status("run", status)
        return vector

    @property
    def closed(self) -> bool:
        """Whether the graph was closed."""
        return not self._compiled

    def close(self) -> None:
        """Releases the graph when its run has ended. Calling it again does nothing.

        Call it in a thread that no interrupt reaches.
        """
        with self._lock:
            for buffer in self._buffers:
                self._c.LiteRtDestroyTensorBuffer(buffer)
            if self._compiled:
                self._c.LiteRtDestroyCompiledModel(self._compiled)
            if self._model:
                self._c.LiteRtDestroyModel(self._model)
            # LiteRT refuses to run the null pointer, so a run that comes late fails and crashes nothing.
            self._compiled.value = self._model.value = None
            self._buffers, self._content = [], None

    def _compile(self, num_threads: int, weight_cache: str) -> None:
        c, environment = self._c, _shared_environment()
        size = ctypes.sizeof(self._content)
        status = c.LiteRtCreateModelFromBuffer(environment, self._content, size, byref(self._model))
        check_status("read the model", status)
        options = c_void_p()
        check_status("create options", c.LiteRtCreateOptions(byref(options)))
        try:
            check_status("choose the CPU", c.LiteRtSetOptionsHardwareAccelerators(options, _CPU))
            free = ctypes.cast(ctypes.CDLL(None).free, c_void_p)
            for name, text in self._settings(num_threads, weight_cache).items():
                details, payload = c_void_p(), _c_string(os.fsencode(text))
                check_status(
                    "create options", c.LiteRtCreateOpaqueOptions(name, payload, free, byref(details))
                )
                check_status("set options", c.LiteRtAddOpaqueOptions(options, details))
            status = c.LiteRtCreateCompiledModel(environment, self._model, options, byref(self._compiled))
            check_status("compile the graph", status)
        finally:
            c.LiteRtDestroyOptions(options)

    def _settings(self, num_threads: int, weight_cache: str) -> dict[bytes, str]:
        """Returns LiteRT's options: by the name of their part a text in TOML."""
        return {
            _OPTIONS_OF_THE_CPU: f'num_threads = {num_threads}\nweight_cache_file_path = "{weight_cache}"\n'
        }

    def _buffer(self, memory: npt.NDArray[Any], element: int) -> Any:
        """Returns an array of one tensor buffer over the memory of an array."""
        kind = _TensorType(element=element, rank=2)
        kind.dimensions[0], kind.dimensions[1] = 1, memory.size
        buffer = c_void_p()
        status = self._c.LiteRtCreateTensorBufferFromHostMemory(
            byref(kind), memory.ctypes.data, memory.nbytes, None, byref(buffer)
        )
        check_status("create a tensor buffer", status)
        self._buffers.append(buffer)
        return (c_void_p * 1)(buffer)


def library() -> Any:
    """Returns LiteRT's C library, loading it if it is not loaded.

    Raises:
        RuntimeFailure: If it is missing or cannot be loaded.
    """
    global _library  # noqa: PLW0603 - one per process
    if _library is None:
        try:
            _library = _declared(ctypes.CDLL(str(package_directory() / _LIBRARY)))
        except (OSError, AttributeError) as error:
            raise cannot_be_loaded(str(error)) from error
    return _library


def _declared(c: Any) -> Any:
    """States the types of the functions that are called; sizes would otherwise be cut to 32 bits."""
    handle = POINTER(c_void_p)
    signatures: dict[str, tuple[Any, ...]] = {
        "LiteRtCreateEnvironment": (c_int, POINTER(_EnvironmentOption), handle),
        "LiteRtCreateModelFromBuffer": (c_void_p, c_void_p, c_size_t, handle),
        "LiteRtCreateOptions": (handle,),
        "LiteRtSetOptionsHardwareAccelerators": (c_void_p, c_int),
        "LiteRtCreateOpaqueOptions": (c_char_p, c_void_p, c_void_p, handle),
        "LiteRtAddOpaqueOptions": (c_void_p, c_void_p),
        "LiteRtCreateCompiledModel": (c_void_p, c_void_p, c_void_p, handle),
        "LiteRtCreateTensorBufferFromHostMemory": (
            POINTER(_TensorType),
            c_void_p,
            c_size_t,
            c_void_p,
            handle,
        ),
        "LiteRtRunCompiledModel": (c_void_p, c_size_t, c_size_t, handle, c_size_t, handle),
    }
    for name, arguments in signatures.items():
        function = getattr(c, name)
        function.argtypes, function.restype = arguments, c_int
    for name in ("Options", "TensorBuffer", "CompiledModel", "Model"):
        function = getattr(c, f"LiteRtDestroy{name}")
        function.argtypes, function.restype = (c_void_p,), None
    return c


def _shared_environment() -> c_void_p:
    """Returns the process's LiteRT environment; every graph shares it, and it is never destroyed."""
    global _environment  # noqa: PLW0603 - one per process, as LiteRT wants it
    if _environment is None:
        options = (_EnvironmentOption * 2)(
            # LiteRT does not look for plug-ins of GPUs and NPUs.
            _EnvironmentOption(_AUTO_REGISTER_ACCELERATORS, _ANY_INT, _CPU),
            _EnvironmentOption(_MIN_LOGGER_SEVERITY, _ANY_INT, _SEVERITY_ERROR),
        )
        made = c_void_p()
        check_status(
            "create an environment", library().LiteRtCreateEnvironment(len(options), options, byref(made))
        )
        _environment = made
    return _environment


def check_status(action: str, status: int) -> None:
    """Raises a `LiteRtError` if a call of LiteRT failed."""
    if status:
        raise LiteRtError(f"cannot {action}: {_STATUS.get(status, 'status')} ({status})")


def _c_string(text: bytes) -> c_void_p:
    """Returns a copy of a text in memory that C's `free` can release."""
    duplicate = ctypes.CDLL(None).strdup
    duplicate.argtypes, duplicate.restype = (c_char_p,), c_void_p
    return c_void_p(duplicate(text))


def _aligned(size: int, kind: type[np.generic]) -> npt.NDArray[Any]:
    """Returns an array of four-byte numbers that begins where LiteRT wants it to."""
    raw = np.zeros(4 * size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + 4 * size].view(kind)


def _forget_environment() -> None:
    global _environment  # noqa: PLW0603 - one per process
    _environment = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_environment)  # the parent's cannot be used
