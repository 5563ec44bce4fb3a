"""LiteRT's public Python interface: all signatures of a file compiled at once, on any accelerator.

It runs graphs on GPUs and NPUs, and on the CPU where the C interface is not the one that `c_api` knows.
LiteRT is imported when a model is loaded. Everything here belongs into threads that no interrupt reaches.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_embed.engine.litert.calls import GraphClosedError
from edge_embed.engine.litert.installed import require_arm_atomics
from edge_embed.engine.litert.log import silence_exit
from edge_embed.engine.packed_weights import IN_MEMORY
from edge_embed.engine.uninterrupted import uninterrupted
from edge_embed.names import INPUT_NAME, OUTPUT_NAME, signature_name

_NO_PLUGINS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "no-plugins")
"""A directory that does not exist: LiteRT looks there for plug-ins and finds none to load."""

_environments: dict[str, Any] = {}


class CompiledFile:
    """All signatures of a model file, compiled by LiteRT's `CompiledModel`.

    Args:
        model: The `CompiledModel`.
        dimension: Numbers of an embedding.
        pad_id: What token ids are padded with.
    """

    def __init__(self, model: Any, dimension: int, pad_id: int) -> None:
        self._model = model
        self._dimension, self._pad_id = dimension, pad_id
        self._buffers: dict[int, tuple[Any, Any]] = {}
        self._lock = threading.Lock()

    @property
    def closed(self) -> bool:
        """Whether the model was closed."""
        return self._model is None

    @property
    def complete(self) -> bool:
        """Whether all of it runs on the accelerator."""
        return bool(self._model.is_fully_accelerated())

    def has_run(self, length: int) -> bool:
        """Returns whether a bucket has run. Its first run allocates, and LiteRT prints to its log."""
        return length in self._buffers

    def run(self, length: int, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """Runs one text in a bucket; returns the embedding, shape ``(dimension,)``.

        Raises:
            GraphClosedError: If the model was closed.
        """
        signature = signature_name(length)
        tokens = np.full((1, length), self._pad_id, dtype=np.int32)
        tokens[0, : len(ids)] = ids
        with self._lock:
            if self._model is None:
                raise GraphClosedError("the model is closed")
            if length not in self._buffers:
                self._buffers[length] = (
                    self._model.create_input_buffer_by_name(signature, INPUT_NAME),
                    self._model.create_output_buffer_by_name(signature, OUTPUT_NAME),
                )
            source, sink = self._buffers[length]
            source.write(tokens)
            self._model.run_by_name(signature, {INPUT_NAME: source}, {OUTPUT_NAME: sink})
            vector: npt.NDArray[np.float32] = sink.read(self._dimension, np.float32)
            return vector

    def close(self) -> None:
        """Releases the model when its run has ended. Calling it again does nothing."""
        with self._lock:
            if self._model is not None:
                self._buffers.clear()
                self._model.close()
                self._model = None

    def abandon(self) -> None:
        """Forgets the model in a forked child, without destroying it."""
        for thing in (self._model, self._buffers):
            _keep_forever(thing)
        self._model, self._buffers = None, {}


class FileGraph:
    """One signature of a `CompiledFile`, with the methods of `c_api.Graph`."""

    def __init__(self, file: CompiledFile, length: int) -> None:
        self._file, self._length = file, length

    @property
    def closed(self) -> bool:
        """Whether the file was closed."""
        return self._file.closed

    def run(self, ids: Sequence[int], pad_id: int) -> npt.NDArray[np.float32]:
        """Runs one text; returns its embedding."""
        return uninterrupted(lambda: self._file.run(self._length, ids))

    def close(self) -> None:
        """Closes the file, and with it all its graphs."""
        self._file.close()


def compile_for_accelerator(
    graph: bytes, accelerator: str, num_threads: int, float16: bool, dimension: int, pad_id: int
) -> CompiledFile:
    """Compiles a graph for an accelerator, the CPU taking what that refuses.

    Args:
        graph: The flatbuffer.
        accelerator: "gpu" or "npu".
        num_threads: Threads for what stays on the CPU.
        float16: Whether the accelerator may compute in float16.
        dimension: Numbers of an embedding.
        pad_id: What token ids are padded with.
    """
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import CpuOptions, GpuOptions, Options

    wanted = {"gpu": HardwareAccelerator.GPU, "npu": HardwareAccelerator.NPU}[accelerator]
    options = Options(
        # Without the CPU beside it LiteRT refuses a graph of which one operator stays.
        wanted | HardwareAccelerator.CPU,
        CpuOptions(num_threads=num_threads, xnnpack_weight_cache_path=IN_MEMORY),
        GpuOptions(enforce_f32=not float16),
    )
    model = CompiledModel.from_buffer(graph, environment=_environment(accelerator), options=options)
    return CompiledFile(model, dimension, pad_id)


def compile_for_cpu(path: str, num_threads: int, weights: str, dimension: int, pad_id: int) -> CompiledFile:
    """Compiles all signatures of a file for the CPU.

    Args:
        path: The file, which LiteRT maps.
        num_threads: Threads of the XNNPACK delegate.
        weights: The file of packed weights.
        dimension: Numbers of an embedding.
        pad_id: What token ids are padded with.
    """
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator
    from ai_edge_litert.options import CpuOptions, Options

    options = Options(
        HardwareAccelerator.CPU, CpuOptions(num_threads=num_threads, xnnpack_weight_cache_path=weights)
    )
    model = CompiledModel.from_file(path, environment=_environment("cpu"), options=options)
    return CompiledFile(model, dimension, pad_id)


def _environment(accelerator: str) -> Any:
    """Returns the process's LiteRT environment for an accelerator: its plug-ins and no others."""
    if accelerator not in _environments:
        require_arm_atomics()
        import ai_edge_litert
        from ai_edge_litert.environment import Environment, EnvironmentOptions

        libraries = os.path.dirname(os.path.abspath(str(ai_edge_litert.__file__)))
        options = {
            "gpu": EnvironmentOptions(libraries, _NO_PLUGINS, _NO_PLUGINS),
            "npu": EnvironmentOptions(_NO_PLUGINS),  # LiteRT finds the vendors' directories itself
            "cpu": EnvironmentOptions(_NO_PLUGINS, _NO_PLUGINS, _NO_PLUGINS),
        }[accelerator]
        if not _environments:
            silence_exit()
        _environments[accelerator] = Environment.create(options=options)
        _keep_forever(_environments[accelerator])  # as the environment of the C interface
    return _environments[accelerator]


def _keep_forever(thing: Any) -> None:
    """Keeps an object until the process ends, so that its destructor never runs."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _after_fork_in_child() -> None:
    _environments.clear()  # the parent's cannot be used


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
