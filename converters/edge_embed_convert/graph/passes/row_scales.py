"""Row scales as data: the scales of a quantized embedding table become a constant of the graph.

A table that is quantized per row has one scale and one zero point for each row, as quantization parameters of
its tensor. Runtimes copy these parameters for every subgraph at load: about 40 MB of private memory for a
vocabulary of 262144 and eight signatures. The zero points, all 0, take 2 MB of the file. This pass stores the
scales as a constant, looks up the scale of each token and multiplies: the same product
``scale[id] * row[id]``, read from memory that is mapped and shared.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np


def separate_row_scales(model: Any) -> None:
    """Rewrites, in place, every EMBEDDING_LOOKUP of a table that is quantized per row.

    Args:
        model: A TFLite `ModelT`.
    """
    from ai_edge_litert.tools import flatbuffer_utils as utils  # loads the whole schema

    scale_buffers: dict[int, int] = {}
    for subgraph in model.subgraphs:
        for index in reversed(range(len(subgraph.operators))):
            operator = subgraph.operators[index]
            code = model.operatorCodes[operator.opcodeIndex].builtinCode
            if code != utils.BuiltinOperator.EMBEDDING_LOOKUP:
                continue
            table = subgraph.tensors[operator.inputs[1]]
            quantization = table.quantization
            per_row = (
                quantization is not None and quantization.scale is not None and len(quantization.scale) > 1
            )
            if not per_row or quantization.details is not None:  # details: a scale per block, not per row
                continue
            if table.buffer not in scale_buffers:
                scale_buffers[table.buffer] = _add_scales(model, quantization.scale, utils)
            _rewrite(model, subgraph, index, scale_buffers[table.buffer], utils)


def _add_scales(model: Any, scales: Any, utils: Any) -> int:
    buffer = utils.BufferT()
    buffer.data = np.frombuffer(np.asarray(scales, dtype="<f4").tobytes(), dtype=np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def _rewrite(model: Any, subgraph: Any, index: int, scale_buffer: int, utils: Any) -> None:
    """Turns ``out = lookup(ids, table)`` into ``out = lookup(ids, table / scale) * lookup(ids, scale)``."""
    lookup = subgraph.operators[index]
    ids, table_index, out = lookup.inputs[0], lookup.inputs[1], lookup.outputs[0]
    table, result = subgraph.tensors[table_index], subgraph.tensors[out]
    rows = int(table.shape[0])
    table.quantization.scale = np.ones(1, dtype=np.float32)
    table.quantization.zeroPoint = np.zeros(1, dtype=np.int64)

    def add(shape: list[int], buffer: int, name: bytes) -> int:
        tensor = copy.deepcopy(result)
        tensor.shape, tensor.shapeSignature = shape, None
        tensor.buffer, tensor.name, tensor.type = buffer, name, utils.TensorType.FLOAT32
        subgraph.tensors.append(tensor)
        return len(subgraph.tensors) - 1

    tokens = int(result.shape[0])
    scale_table = add([rows, 1], scale_buffer, b"embedding/row_scale")
    steps = add(list(result.shape), result.buffer, b"embedding/steps")
    scales = add([tokens, 1], result.buffer, b"embedding/scale")

    scale_lookup = copy.deepcopy(lookup)
    scale_lookup.inputs, scale_lookup.outputs = [ids, scale_table], [scales]
    lookup.outputs = [steps]
    multiply = utils.schema_fb.OperatorT()
    multiply.opcodeIndex = _operator_code(model, utils.BuiltinOperator.MUL, utils)
    multiply.inputs, multiply.outputs = [steps, scales], [out]
    multiply.builtinOptionsType = utils.BuiltinOptions.MulOptions
    multiply.builtinOptions = utils.schema_fb.MulOptionsT()
    subgraph.operators[index + 1 : index + 1] = [scale_lookup, multiply]


def _operator_code(model: Any, builtin: int, utils: Any) -> int:
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == builtin:
            return index
    code = utils.schema_fb.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
