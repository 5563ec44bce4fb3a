"""LiteRT: the only module that imports it, and only when a model is loaded.

Its calls run with standard error captured, see `_capture`.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edge_embed._armv80 import keep_out_what_would_kill_us
from edge_embed._capture import Captured, quiet_stderr
from edge_embed._flatbuffer import with_primary
from edge_embed._manifest import INPUT_NAME, OUTPUT_NAME, Manifest, Vector, signature_name
from edge_embed.errors import ModelFileError, RuntimeFailure

IN_MEMORY = ":memory"
"""The weight cache path that makes XNNPACK share packed weights within the process only."""

NO_PLUGINS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "no-plugins")
"""A directory that does not exist: LiteRT looks there for GPU and NPU plug-ins and finds none to load."""

_PARTITION = "DELEGATE"
PYBIND_ERRORS = (RuntimeError, ValueError, TypeError, IndexError)

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_environment: Any = None
T = TypeVar("T")


class Engine:
    """One compiled graph. Not thread-safe: its owner serializes the calls.

    Args:
        path: The model file.
        manifest: Its manifest.
        num_threads: Threads of the XNNPACK delegate.
        weight_cache: A file for packed weights, made if it is missing or garbage, or `IN_MEMORY`.

    Raises:
        RuntimeFailure: If LiteRT cannot compile the graph.
        ModelFileError: If the graph is not the one that the manifest describes.
    """

    def __init__(
        self, path: str | os.PathLike[str], manifest: Manifest, num_threads: int, weight_cache: str
    ) -> None:
        self._pad_id = manifest.tokenizer.pad_id
        self._dimension = manifest.dimension
        self._buffers: dict[int, tuple[Any, Any]] = {}
        self._model = self._compile(os.fspath(path), num_threads, weight_cache)
        _engines.add(self)
        _check_signatures(self._model, manifest)

    def run(self, length: int, ids: Sequence[int]) -> Vector:
        """Runs one text.

        Args:
            length: A bucket of at least ``len(ids)``.
            ids: Token ids, special tokens included; padded here.

        Returns:
            The embedding as the graph gives it, shape ``(dimension,)``.

        Raises:
            RuntimeFailure: If LiteRT fails, or the vector is not finite or is all zeros.
        """
        tokens = np.full((1, length), self._pad_id, dtype=np.int32)
        tokens[0, : len(ids)] = ids
        if length in self._buffers:
            try:
                vector = self._invoke(length, tokens)
            except PYBIND_ERRORS as error:
                raise RuntimeFailure("LiteRT cannot run the graph", got=str(error)) from error
        else:
            # The first run of a bucket allocates, and speaks.
            vector = call("LiteRT cannot run the graph", lambda: self._invoke(length, tokens))
        _check_vector(vector)
        return vector

    def _compile(self, file: str, num_threads: int, weight_cache: str) -> Any:
        def compile_graph() -> Any:
            from ai_edge_litert.compiled_model import CompiledModel  # noqa: PLC0415 - only when a model is loaded
            from ai_edge_litert.hardware_accelerator import HardwareAccelerator  # noqa: PLC0415
            from ai_edge_litert.options import CpuOptions, Options  # noqa: PLC0415

            cpu = CpuOptions(num_threads=num_threads, xnnpack_weight_cache_path=weight_cache)
            options = Options(HardwareAccelerator.CPU, cpu)
            return CompiledModel.from_file(file, environment=_shared_environment(), options=options)

        return call(f"LiteRT cannot load {file}", compile_graph)

    def close(self) -> None:
        """Releases the graph. Calling it again does nothing."""
        if self._model is None:
            return
        with quiet_stderr():
            self._buffers.clear()
            self._model.close()
            self._model = None
        _engines.discard(self)

    def _invoke(self, length: int, tokens: Any) -> Vector:
        signature = signature_name(length)
        if length not in self._buffers:
            _check_shapes(self._model, length, self._dimension)
            source = self._model.create_input_buffer_by_name(signature, INPUT_NAME)
            sink = self._model.create_output_buffer_by_name(signature, OUTPUT_NAME)
        else:
            source, sink = self._buffers[length]
        source.write(tokens)
        self._model.run_by_name(signature, {INPUT_NAME: source}, {OUTPUT_NAME: sink})
        vector: Vector = sink.read(self._dimension, np.float32)
        self._buffers[length] = (source, sink)
        return vector

    def _abandon(self) -> None:
        """Forgets the graph in a forked child, without destroying it.

        The delegate's threads exist only in the parent; joining them here would wait for ever.
        """
        leak(self._model)
        leak(self._buffers)
        self._model, self._buffers = None, {}


def _shared_environment() -> Any:
    """Returns the process's LiteRT environment; every model shares it."""
    global _environment  # noqa: PLW0603 - one per process, as LiteRT wants it
    if _environment is None:
        from ai_edge_litert.environment import Environment, EnvironmentOptions  # noqa: PLC0415

        keep_out_what_would_kill_us()
        options = EnvironmentOptions(
            runtime_path=NO_PLUGINS, compiler_plugin_path=NO_PLUGINS, dispatch_library_path=NO_PLUGINS
        )
        _environment = Environment.create(options=options)
        leak(_environment)  # destroying it is of no use, and it would say so when the process ends
    return _environment


def leak(thing: Any) -> None:
    """Keeps an object alive for ever, so that its destructor never runs."""
    import ctypes  # noqa: PLC0415 - numpy has it loaded already

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def call(what: str, action: Callable[[], T]) -> T:
    """Runs `action` with its log captured, and turns its failure into ours."""
    captured = Captured()
    try:
        with quiet_stderr() as captured:
            return action()
    except ImportError as error:
        raise RuntimeFailure(
            "LiteRT cannot be imported", got=str(error), fix="pip install --force-reinstall ai-edge-litert"
        ) from error
    except PYBIND_ERRORS as error:
        details = "; ".join([str(error).replace("\n", " "), *captured.errors])
        raise RuntimeFailure(what, got=details, fix="convert the model again") from error


def _check_signatures(model: Any, manifest: Manifest) -> None:
    """Checks the names only: LiteRT allocates a signature's memory when it is asked for a shape."""
    found = model.get_signature_list()
    for length in manifest.buckets:
        expected = {"inputs": [INPUT_NAME], "outputs": [OUTPUT_NAME]}
        if (got := found.get(signature_name(length))) != expected:
            raise ModelFileError(
                f"the graph's signature {signature_name(length)} is not what the manifest describes",
                got=str(got or f"none among {', '.join(found) or 'no signatures'}"),
                expected=str(expected),
                fix="convert the model again",
            )


def _check_shapes(model: Any, length: int, dimension: int) -> None:
    """Checks the signature of one bucket, as it is used for the first time."""
    name = signature_name(length)
    source = model.get_input_tensor_details(name)[INPUT_NAME]
    sink = model.get_output_tensor_details(name)[OUTPUT_NAME]
    got = [(details["dtype"], list(details["shape"])) for details in (source, sink)]
    expected = [("int32", [1, length]), ("float32", [1, dimension])]
    if got != expected:
        raise ModelFileError(
            f"the signature {name} does not have the shape that the manifest describes",
            got=str(got),
            expected=str(expected),
            fix="convert the model again",
        )


def _check_vector(vector: Vector) -> None:
    bad = int(np.count_nonzero(~np.isfinite(vector)))
    if bad or not vector.any():
        raise RuntimeFailure(
            "the backend returned a vector that cannot be used",
            got=f"{bad} of {vector.size} values are not finite" if bad else "all zeros",
            expected="finite values, not all zero",
            fix="load the model again; if it stays, convert it again and report the file",
        )


@atexit.register
def _silence_exit() -> None:
    """Makes LiteRT's static destructors speak into the void.

    They log when the process ends, after Python is gone, so no Python code can capture them. Two libc
    calls do it, in the order last in, first out: `close(2)`, then `dup` of the null device, which
    takes the lowest free descriptor, 2. Registered as Python ends, they come after all of LiteRT's own,
    and so run before them.
    """
    if "ai_edge_litert" not in sys.modules:
        return
    import ctypes  # noqa: PLC0415 - numpy has it loaded already

    try:
        libc = ctypes.CDLL(None)
        register, calls = libc.__cxa_atexit, (libc.dup, libc.close)
    except (AttributeError, OSError, TypeError):  # another kind of libc: the lines stay visible
        return
    null = os.open(os.devnull, os.O_WRONLY)
    for function, descriptor in zip(calls, (null, 2), strict=True):
        register(ctypes.cast(function, ctypes.c_void_p), ctypes.c_void_p(descriptor), None)


def _after_fork_in_child() -> None:
    global _environment  # noqa: PLW0603 - the parent's is of no use here
    for engine in list(_engines):
        engine._abandon()
    _engines.clear()
    _environment = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@dataclass(frozen=True)
class DelegateReport:
    """How the XNNPACK delegate takes one signature's graph.

    Attributes:
        nodes: Operators in the graph.
        partitions: Parts that the delegate took; one is best.
        outside: Names of the operators that it left out, in their order.
    """

    nodes: int
    partitions: int
    outside: list[str]


def partitions(path: str | os.PathLike[str], length: int) -> DelegateReport:
    """Prepares one signature for running and reports what the delegate took.

    Args:
        path: A model file, or any flatbuffer with our signatures.
        length: The signature's bucket.

    Raises:
        ModelFileError: If there is no such signature.
        RuntimeFailure: If LiteRT cannot prepare the graph.
    """
    content = with_primary(path, signature_name(length))

    def prepare() -> tuple[list[dict[str, Any]], list[int]]:
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - only to inspect

        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
        return interpreter._get_ops_details(), [int(t["index"]) for t in interpreter.get_output_details()]

    operators, outputs = call(f"LiteRT cannot prepare {os.fspath(path)}", prepare)
    return _report(operators, outputs)


def _report(operators: list[dict[str, Any]], outputs: list[int]) -> DelegateReport:
    """Finds what runs, from the outputs backwards.

    The list holds every operator of the file, also those inside a partition, and the partitions after
    them. So a tensor that both produce comes from the partition.
    """
    producer = {int(tensor): op for op in operators for tensor in op["outputs"]}
    running: dict[int, str] = {}
    wanted = list(outputs)
    while wanted:
        op = producer.get(wanted.pop())
        if op is not None and op["index"] not in running:
            running[op["index"]] = op["op_name"]
            wanted += [int(tensor) for tensor in op["inputs"]]
    names = [name for _, name in sorted(running.items())]
    return DelegateReport(
        nodes=sum(op["op_name"] != _PARTITION for op in operators),
        partitions=names.count(_PARTITION),
        outside=[name for name in names if name != _PARTITION],
    )


def library_version() -> str:
    """Returns what identifies the installed LiteRT, for keys of things that depend on its build.

    The name of its metadata directory holds the version; importlib.metadata would take 70 ms to say it.
    """
    import ai_edge_litert  # noqa: PLC0415 - only when a model is loaded

    package = Path(ai_edge_litert.__path__[0])
    names = sorted(p.name for p in package.parent.glob("ai_edge_litert*.dist-info"))
    libraries = sorted((p.name, p.stat().st_size) for p in package.glob("lib*.so"))
    return f"{names} {libraries}"
