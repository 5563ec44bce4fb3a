"""What every engine shares: its contract, LiteRT's chatter, and a look at how the delegate takes a graph.

LiteRT itself is imported or loaded only when a model is. Its calls run with standard error captured, see
`litert.log`.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from edge_embed.engine.litert import c_api
from edge_embed.engine.litert.flatbuffer import Signature, keep_only, mapped
from edge_embed.engine.litert.log import Captured, quiet_stderr
from edge_embed.errors import ModelFileError, RuntimeFailure
from edge_embed.model_file.manifest import Manifest, Vector
from edge_embed.names import INPUT_NAME, OUTPUT_NAME, signature_name

IN_MEMORY = ":memory"
"""The weight cache path that keeps packed weights in this process."""

PYBIND_ERRORS = (RuntimeError, ValueError, TypeError, IndexError)

_PARTITION = "DELEGATE"

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
T = TypeVar("T")


class Engine(ABC):
    """What runs a model file's graph. Thread-safe.

    Args:
        manifest: The file's manifest.

    Attributes:
        workers: How many texts it can run at a time, each alone on one thread; 1 where that is of no use.
    """

    workers = 1

    def __init__(self, manifest: Manifest) -> None:
        self._name = manifest.name
        self._pad_id = manifest.tokenizer.pad_id
        self._dimension = manifest.dimension

    def run(self, length: int, ids: Sequence[int], alone: bool = False) -> Vector:
        """Runs one text.

        Args:
            length: A bucket of at least ``len(ids)``.
            ids: Token ids, special tokens included; padded here.
            alone: Whether one thread runs it, beside up to `workers` others that run as many other texts.

        Returns:
            The embedding as the graph gives it, shape ``(dimension,)``.

        Raises:
            RuntimeFailure: If LiteRT fails, or the vector is not finite or is all zeros.
        """
        vector = self._invoke(length, ids, alone and self.workers > 1)
        _check_vector(vector)
        return vector

    @abstractmethod
    def close(self) -> None:
        """Releases the graph once it has ended what it runs. Calling it again does nothing."""

    @abstractmethod
    def abandon(self) -> None:
        """Forgets the graph in a forked child, without destroying it. Calling it again does nothing.

        The delegate's threads exist only in the parent; joining them here would wait for ever.
        """

    def _register(self) -> None:
        """Lets a fork find the engine. The last act of a constructor: what it abandons is complete."""
        _engines.add(self)

    @abstractmethod
    def _invoke(self, length: int, ids: Sequence[int], alone: bool) -> Vector: ...


def closed(name: str) -> RuntimeFailure:
    """Returns the error of using a model that was closed."""
    return RuntimeFailure(f"the model {name} is closed", fix="make a new Embedder")


def leak(thing: Any) -> None:
    """Keeps an object alive for ever, so that its destructor never runs."""
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
    except (*PYBIND_ERRORS, c_api.LiteRtError) as error:
        details = "; ".join([str(error).replace("\n", " "), *captured.errors])
        raise RuntimeFailure(what, got=details, fix="convert the model again") from error


def check_signatures(found: Mapping[str, Signature], manifest: Manifest) -> None:
    """Checks that a graph has the signatures and the shapes that a manifest describes.

    Raises:
        ModelFileError: If it has not.
    """
    for length in manifest.buckets:
        name = signature_name(length)
        got = found.get(name)
        if got is None or (list(got.inputs), list(got.outputs)) != ([INPUT_NAME], [OUTPUT_NAME]):
            raise ModelFileError(
                f"the graph's signature {name} is not what the manifest describes",
                got=str(got or f"none among {', '.join(found) or 'no signatures'}"),
                expected=f"an input {INPUT_NAME} and an output {OUTPUT_NAME}",
                fix="convert the model again",
            )
        tensors = got.inputs[INPUT_NAME], got.outputs[OUTPUT_NAME]
        expected = ("int32", [1, length]), ("float32", [1, manifest.dimension])
        if tensors != expected:
            raise ModelFileError(
                f"the signature {name} does not have the shape that the manifest describes",
                got=str(tensors),
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


def _after_fork_in_child() -> None:
    c_api.forget()
    for engine in list(_engines):
        engine.abandon()
    _engines.clear()


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
    with mapped(path) as data:
        keep_only(data, signature_name(length))
        content = bytes(data)

    def prepare() -> tuple[list[dict[str, Any]], list[int]]:
        from ai_edge_litert.interpreter import Interpreter  # only to inspect

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
    """Returns what identifies the installed LiteRT, for keys of things that depend on its build."""
    package = c_api.package_directory()
    libraries = sorted((p.name, p.stat().st_size) for p in package.glob("lib*") if p.is_file())
    return f"{c_api.versions(package)} {libraries}"
