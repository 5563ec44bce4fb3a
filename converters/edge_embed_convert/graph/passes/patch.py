"""Patch: which operator of an exported graph has which weight, and other weights in place of those.

The exporter writes each float32 weight as it is, once for all signatures. So a weight is found by its
bytes, and another of the same shape can take its place.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from edge_embed.errors import ConversionError

Find = Callable[[str], Tensor]


def patch_weights(path: Path, replacements: Iterable[tuple[str, Tensor]], original: Find) -> None:
    """Replaces weights of a float32 graph.

    Args:
        path: The flatbuffer as exported; it is changed.
        replacements: Paths of weights in the model, and their new values.
        original: Gives the value that a path had at export.

    Raises:
        ConversionError: If a weight is not in the graph, or is there for two.
    """
    from ai_edge_litert.tools import flatbuffer_utils as utils  # loads the whole schema

    with path.open("r+b") as handle, mmap.mmap(handle.fileno(), 0) as content:
        places = _places(utils.Model.GetRootAs(content, 0), content)
        for name, weight in replacements:
            place = places.pop(_digest(original(name).numpy()), None)
            if place is None:
                raise ConversionError(
                    f"the weight {name} was not found once in the exported graph",
                    expected="each weight written as it is, and once",
                    fix="report it: the exporter has changed",
                )
            start, size = place
            content[start : start + size] = np.ascontiguousarray(weight.numpy(), dtype="<f4").tobytes()


def operators_of(path: Path, weights: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Returns, for each weight, the names of what its FULLY_CONNECTED operators give, in every signature.

    Names alone do not tell which projection an operator is: one that was fused has those of others too.

    Args:
        path: The flatbuffer as exported.
        weights: The values at export, by the weights' paths.
    """
    from ai_edge_litert.tools import flatbuffer_utils as utils  # loads the whole schema

    owners = {_digest(weight.numpy()): name for name, weight in weights.items()}
    found: dict[str, list[str]] = {name: [] for name in weights}
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
        model = utils.Model.GetRootAs(content, 0)
        by_place = {place: digest for digest, place in _places(model, content).items()}
        for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
            for operator in map(graph.Operators, range(graph.OperatorsLength())):
                code = model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()
                if code != utils.BuiltinOperator.FULLY_CONNECTED:
                    continue
                place = _place(model.Buffers(graph.Tensors(operator.Inputs(1)).Buffer()))
                owner = owners.get(by_place.get(place, b""))
                if owner is not None:
                    found[owner].append(graph.Tensors(operator.Outputs(0)).Name().decode())
    return found


def _places(model: Any, content: mmap.mmap) -> dict[bytes, tuple[int, int]]:
    """Returns where each large constant lies, by the digest of its content."""
    found: dict[bytes, tuple[int, int]] = {}
    for index in range(model.BuffersLength()):
        start, size = _place(model.Buffers(index))
        if size:
            found[_digest(np.frombuffer(content, np.uint8, size, start))] = (start, size)
    return found


def _place(buffer: Any) -> tuple[int, int]:
    """Returns where a constant lies and its size."""
    if buffer.Offset() > 1:  # behind the flatbuffer, not inside it
        return buffer.Offset(), buffer.Size()
    size = buffer.DataLength()
    return (buffer._tab.Vector(buffer._tab.Offset(4)) if size else 0), size


def _digest(data: npt.NDArray[np.generic]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(data).view(np.uint8).data, digest_size=32).digest()
