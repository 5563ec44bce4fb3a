"""Weights of an exported graph: which operator reads which, how they are stored, and how to replace them.

The exporter writes each float32 weight as it is, once for all signatures. So a weight is found by its bytes,
and another of the same shape can take its place. Names do not identify an operator: one that was fused has
those of others too.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from edge_embed.errors import ConversionError

TABLE = "table"
"""What the embedding table is called where weights are named by the paths of projections."""

Content = bytes | mmap.mmap


@dataclass(frozen=True)
class StoredWeight:
    """A constant that a FULLY_CONNECTED or an EMBEDDING_LOOKUP reads.

    Attributes:
        output: The name of the tensor that the operator gives.
        lookup: Whether the operator is an EMBEDDING_LOOKUP.
        type: The type's name in the schema: `FLOAT32`, `FLOAT16`, `INT8`, `INT4` or `INT2`.
        shape: Rows and columns.
        scales: How many scales it has; 0 if they are blockwise or none.
        block: Weights per scale along a row, 0 without blocks.
        place: Offset and size of its data in bytes.
        scale_place: Offset and size of the scales of its blocks; size 0 without blocks.
    """

    output: str
    lookup: bool
    type: str
    shape: tuple[int, ...]
    scales: int
    block: int
    place: tuple[int, int]
    scale_place: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Projections:
    """Where the projections of a model are in its exported graph.

    Attributes:
        order: For each subgraph, the paths of the projections in the order of their operators.
        names: The names of what the operators of a projection give, by its path.
    """

    order: tuple[tuple[str, ...], ...]
    names: Mapping[str, tuple[str, ...]]


def find_projections(path: Path, weights: Mapping[str, Tensor]) -> Projections:
    """Finds the operators of each projection by their weights.

    Args:
        path: The float32 flatbuffer as exported.
        weights: The weights of every projection by its path in the model.

    Raises:
        ConversionError: If a projection is not in every signature, or an operator belongs to none.
    """
    owners = {_digest(weight.numpy()): name for name, weight in weights.items()}
    names: dict[str, list[str]] = {name: [] for name in weights}
    order = []
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
        digests: dict[tuple[int, int], bytes] = {}
        for stored in stored_weights(content):
            found = []
            for weight in stored:
                if weight.lookup:
                    continue
                if weight.place not in digests:
                    start, size = weight.place
                    digests[weight.place] = _digest(np.frombuffer(content, np.uint8, size, start))
                owner = owners.get(digests[weight.place])
                if owner is None:
                    raise ConversionError(
                        "the exported graph has an operator with weights of no known projection",
                        got=f"{weight.output}, shape {weight.shape}",
                        expected="only the projections of the model",
                        fix="report it: the exporter may have merged two projections",
                    )
                found.append(owner)
                names[owner].append(weight.output)
            missing = sorted(weights.keys() - set(found))
            if missing:
                raise ConversionError(
                    "a projection is missing in the exported graph",
                    got=", ".join(missing[:5]),
                    expected="every projection as a FULLY_CONNECTED with its own weights",
                    fix="report it: the exporter may have changed",
                )
            order.append(tuple(found))
    return Projections(tuple(order), {name: tuple(every) for name, every in names.items()})


def patch_weights(
    path: Path, replacements: Iterable[tuple[str, Tensor]], original: Callable[[str], Tensor]
) -> None:
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
                    f"the weight {name} was not found exactly once in the exported graph",
                    expected="each weight unchanged and stored once",
                    fix="report it: the exporter has changed",
                )
            start, size = place
            content[start : start + size] = np.ascontiguousarray(weight.numpy(), dtype="<f4").tobytes()


def stored_weights(content: Content) -> Iterator[list[StoredWeight]]:
    """Yields, for each subgraph, the weights that FULLY_CONNECTED and EMBEDDING_LOOKUP operators read."""
    from ai_edge_litert.tools import flatbuffer_utils as utils  # loads the whole schema

    model = utils.Model.GetRootAs(content, 0)
    kinds = utils.BuiltinOperator
    codes = [model.OperatorCodes(i).BuiltinCode() for i in range(model.OperatorCodesLength())]
    types = {value: name for name, value in vars(utils.TensorType).items() if isinstance(value, int)}
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        found = []
        unpacked: dict[int, int] = {}  # float16 weights go through a DEQUANTIZE
        for operator in map(graph.Operators, range(graph.OperatorsLength())):
            code = codes[operator.OpcodeIndex()]
            if code == kinds.DEQUANTIZE:
                unpacked[operator.Outputs(0)] = operator.Inputs(0)
            if code not in (kinds.FULLY_CONNECTED, kinds.EMBEDDING_LOOKUP):
                continue
            tensor = graph.Tensors(unpacked.get(operator.Inputs(1), operator.Inputs(1)))
            place = _place(model.Buffers(tensor.Buffer()))
            if not place[1]:
                continue  # not a constant
            output = graph.Tensors(operator.Outputs(0)).Name().decode()
            scales, block, scale_tensor = _granularity(tensor.Quantization(), utils)
            scale_place = (0, 0)
            if block:
                scale_place = _place(model.Buffers(graph.Tensors(scale_tensor).Buffer()))
            shape = tuple(int(size) for size in tensor.ShapeAsNumpy())
            lookup = code == kinds.EMBEDDING_LOOKUP
            kind = types[tensor.Type()]
            found.append(StoredWeight(output, lookup, kind, shape, scales, block, place, scale_place))
        yield found


def _granularity(quantization: Any, utils: Any) -> tuple[int, int, int]:
    """Returns how many scales a tensor has, how many weights share one in a block, and their tensor."""
    if quantization is None:
        return 0, 0, 0
    schema = utils.schema_fb
    if quantization.DetailsType() == schema.QuantizationDetails.BlockwiseQuantization:
        details, table = schema.BlockwiseQuantization(), quantization.Details()
        details.Init(table.Bytes, table.Pos)
        return 0, int(details.BlockSize()), int(details.Scales())
    return int(quantization.ScaleLength()), 0, 0


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
