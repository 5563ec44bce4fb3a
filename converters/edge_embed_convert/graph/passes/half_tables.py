"""Half tables: position tables of quantized files are stored in float16.

They are added to rows of an int8 or int4 table. The rounding error of float16, 2e-4 of a value, is far
below that table's error. Half of their bytes are saved: 0.2 MB of all-MiniLM-L6-v2, two percent of its
smallest file. The delegate converts them to float32 once, at load.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

AT_LEAST = 1024
"""Constants of fewer bytes stay in float32, because the conversion needs an operator."""

LARGEST = 100.0
"""Constants with larger values are masks, not position tables."""


def halve_tables(model: Any) -> None:
    """Rewrites, in place, every large float32 constant that is added to something.

    Args:
        model: A TFLite `ModelT`.
    """
    from ai_edge_litert.tools import flatbuffer_utils as utils  # loads the whole schema

    halved: dict[int, int] = {}
    for subgraph in model.subgraphs:
        readers = [int(i) for op in subgraph.operators for i in op.inputs]
        for op in list(subgraph.operators):
            if model.operatorCodes[op.opcodeIndex].builtinCode != utils.BuiltinOperator.ADD:
                continue
            for index in [int(i) for i in op.inputs]:
                tensor = subgraph.tensors[index]
                if readers.count(index) != 1 or not _is_table(model, tensor, utils):
                    continue
                if tensor.buffer not in halved:
                    halved[tensor.buffer] = _add_half(model, tensor.buffer, utils)
                _unpack(model, subgraph, op, index, halved[tensor.buffer], utils)
    used = {tensor.buffer for subgraph in model.subgraphs for tensor in subgraph.tensors}
    for buffer in halved.keys() - used:
        model.buffers[buffer].data = None


def _is_table(model: Any, tensor: Any, utils: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    if tensor.type != utils.TensorType.FLOAT32 or data is None or len(data) < AT_LEAST:
        return False
    if len(tensor.shape) < 2 or tensor.shape[-2] < 2:  # a bias: one row for all positions
        return False
    return float(np.abs(_values(data)).max()) < LARGEST


def _values(data: Any) -> Any:
    return np.frombuffer(bytes(data), dtype="<f4")


def _add_half(model: Any, buffer: int, utils: Any) -> int:
    half = utils.BufferT()
    half.data = np.frombuffer(_values(model.buffers[buffer].data).astype("<f2").tobytes(), dtype=np.uint8)
    model.buffers.append(half)
    return len(model.buffers) - 1


def _unpack(model: Any, subgraph: Any, op: Any, index: int, half: int, utils: Any) -> None:
    """Puts ``DEQUANTIZE`` between a constant, from now on in float16, and the one that reads it."""
    unpacked = copy.deepcopy(subgraph.tensors[index])
    unpacked.buffer = subgraph.tensors[op.outputs[0]].buffer  # the empty buffer of computed tensors
    subgraph.tensors.append(unpacked)
    subgraph.tensors[index].buffer, subgraph.tensors[index].type = half, utils.TensorType.FLOAT16
    dequantize = utils.schema_fb.OperatorT()
    dequantize.opcodeIndex = _dequantize_code(model, utils)
    dequantize.inputs, dequantize.outputs = [index], [len(subgraph.tensors) - 1]
    op.inputs = [len(subgraph.tensors) - 1 if int(i) == index else int(i) for i in op.inputs]
    subgraph.operators.insert(subgraph.operators.index(op), dequantize)


def _dequantize_code(model: Any, utils: Any) -> int:
    kind, version = utils.BuiltinOperator.DEQUANTIZE, 3  # the first version that takes float16
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == kind and code.version >= version:
            return index
    code = utils.schema_fb.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = kind
    code.version = version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
