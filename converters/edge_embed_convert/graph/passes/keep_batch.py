"""Projections that keep the batch dimension, so that GPUs take them.

The converter flattens ``(1, L, D)`` to ``(L, D)`` before or within some projections, and the residual
addition restores the dimension. On a CPU this makes no difference. A GPU delegate interprets a tensor as
batch, height, width and channels, so L becomes a batch of L images. With quantized weights it then refuses
to add the other side of the addition.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np


def keep_batch(model: Any) -> None:
    """Rewrites, in place, FULLY_CONNECTED with output ``(L, D)``, L > 1, to one with ``(1, L, D)``.

    Only if every reader is elementwise or has an explicit output shape, so that nothing else changes.

    Args:
        model: A TFLite `ModelT`.
    """
    from ai_edge_litert.tools import flatbuffer_utils as utils  # loads the whole schema

    kinds = utils.BuiltinOperator
    elementwise = (kinds.ADD, kinds.SUB, kinds.MUL)

    def kind(op: Any) -> int:
        return int(model.operatorCodes[op.opcodeIndex].builtinCode)

    shapes: dict[tuple[int, ...], int] = {}
    for subgraph in model.subgraphs:
        producers = {int(i): op for op in subgraph.operators for i in op.outputs}
        readers: dict[int, list[Any]] = {}
        for op in subgraph.operators:
            for index in op.inputs:
                readers.setdefault(int(index), []).append(op)
        for op in subgraph.operators:
            if kind(op) != kinds.FULLY_CONNECTED:
                continue
            source, target = subgraph.tensors[op.inputs[0]], subgraph.tensors[op.outputs[0]]
            followers = readers.get(int(op.outputs[0]), [])
            if len(target.shape) != 2 or target.shape[0] == 1 or op.outputs[0] in subgraph.outputs:
                continue
            if not all(
                kind(f) in (*elementwise, kinds.RESHAPE)
                and _indifferent(f, subgraph, target, kind(f) == kinds.RESHAPE)
                for f in followers
            ):
                continue
            if len(source.shape) == 2:
                reshape = producers.get(int(op.inputs[0]))
                alone = len(readers[int(op.inputs[0])]) == 1
                if reshape is None or kind(reshape) != kinds.RESHAPE or not alone:
                    continue
                _set_shape(model, subgraph, reshape, (1, *map(int, source.shape)), shapes, utils)
            elif tuple(source.shape[:-1]) != (1, target.shape[0]):
                continue
            op.builtinOptions.keepNumDims = True
            target.shape, target.shapeSignature = [1, *target.shape], None


def _indifferent(op: Any, subgraph: Any, target: Any, is_reshape: bool) -> bool:
    """Returns whether an operator gives the same result and shape if `target` gets a leading 1."""
    return is_reshape or len(subgraph.tensors[op.outputs[0]].shape) > len(target.shape)


def _set_shape(
    model: Any,
    subgraph: Any,
    reshape: Any,
    shape: tuple[int, ...],
    shapes: dict[tuple[int, ...], int],
    utils: Any,
) -> None:
    """Gives a RESHAPE, and the tensor that it writes, another shape."""
    if shape not in shapes:
        buffer = utils.BufferT()
        buffer.data = np.frombuffer(np.asarray(shape, dtype="<i4").tobytes(), dtype=np.uint8)
        model.buffers.append(buffer)
        shapes[shape] = len(model.buffers) - 1
    constant = copy.deepcopy(subgraph.tensors[reshape.inputs[1]])
    constant.shape, constant.shapeSignature, constant.buffer = [len(shape)], None, shapes[shape]
    subgraph.tensors.append(constant)
    reshape.inputs = [reshape.inputs[0], len(subgraph.tensors) - 1]
    if reshape.builtinOptions is not None:
        reshape.builtinOptions.newShape = list(shape)
    out = subgraph.tensors[reshape.outputs[0]]
    out.shape, out.shapeSignature = list(shape), None
