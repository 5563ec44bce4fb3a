"""Fewer nodes: means that keep their dimension, and no tensor that nothing uses.

The converter turns ``mean(-1, keepdim=True)`` into a MEAN that drops the dimension and a RESHAPE that
restores it, four times a layer. Every node costs the runtime about ten kilobytes in each signature, even if
that signature never runs. This pass makes MEAN keep the dimension and removes the RESHAPE.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def fold_reshapes(model: Any) -> None:
    """Rewrites, in place, ``RESHAPE(f(MEAN(x)))`` to ``f(MEAN(x, keep_dims))``, f being elementwise."""
    from ai_edge_litert.tools import flatbuffer_utils as utils  # loads the whole schema

    kinds = utils.BuiltinOperator
    for subgraph in model.subgraphs:
        graph = _Graph(model, subgraph)
        for mean in [op for op in subgraph.operators if graph.kind(op) == kinds.MEAN]:
            axes = graph.constant(mean.inputs[1])
            rank = len(subgraph.tensors[mean.inputs[0]].shape)
            if mean.builtinOptions.keepDims or list(axes) not in ([rank - 1], [-1]):
                continue
            chain = [mean]
            while (following := graph.only_reader(chain[-1].outputs[0])) is not None:
                if graph.kind(following) == kinds.RESHAPE:
                    break
                if graph.kind(following) not in (kinds.ADD, kinds.RSQRT) or not graph.unary(following):
                    following = None
                    break
                chain.append(following)
            if following is None or not graph.appends_one(following):
                continue
            mean.builtinOptions.keepDims = True
            for op in chain:
                tensor = subgraph.tensors[op.outputs[0]]
                tensor.shape = [*tensor.shape, 1]
            graph.replace(following.outputs[0], chain[-1].outputs[0])
            subgraph.operators.remove(following)
            graph = _Graph(model, subgraph)
        _drop_unused_tensors(subgraph)


class _Graph:
    """Which operators read which tensors in one subgraph."""

    def __init__(self, model: Any, subgraph: Any) -> None:
        self._model, self._subgraph = model, subgraph
        self._readers: dict[int, list[Any]] = {}
        for op in subgraph.operators:
            for index in op.inputs:
                self._readers.setdefault(int(index), []).append(op)

    def kind(self, op: Any) -> int:
        return int(self._model.operatorCodes[op.opcodeIndex].builtinCode)

    def constant(self, index: int) -> Iterable[int]:
        data = self._model.buffers[self._subgraph.tensors[index].buffer].data
        return memoryview(bytes(data)).cast("i").tolist() if data is not None else []

    def only_reader(self, index: int) -> Any | None:
        readers = self._readers.get(int(index), [])
        return readers[0] if len(readers) == 1 and index not in self._subgraph.outputs else None

    def unary(self, op: Any) -> bool:
        """Returns whether every input but one is a single number, so that shape does not matter."""
        shapes = [self._subgraph.tensors[i].shape for i in op.inputs]
        return sum(1 for shape in shapes if shape is not None and len(shape) > 0) == 1

    def appends_one(self, reshape: Any) -> bool:
        before = list(self._subgraph.tensors[reshape.inputs[0]].shape)
        return list(self._subgraph.tensors[reshape.outputs[0]].shape) == [*before, 1]

    def replace(self, old: int, new: int) -> None:
        for op in self._readers.get(int(old), []):
            op.inputs = [new if index == old else index for index in op.inputs]
        self._subgraph.outputs = [new if index == old else index for index in self._subgraph.outputs]


def _drop_unused_tensors(subgraph: Any) -> None:
    used = {int(i) for i in (*subgraph.inputs, *subgraph.outputs)}
    used |= {int(i) for op in subgraph.operators for i in (*op.inputs, *op.outputs) if i >= 0}
    # Weights with a scale per block name the tensor that holds their scales.
    blockwise = [d for i in used if (d := _block_details(subgraph.tensors[i])) is not None]
    used |= {int(details.scales) for details in blockwise}
    kept = sorted(used)
    moved = {old: new for new, old in enumerate(kept)} | {-1: -1}  # -1: an optional input left out
    subgraph.tensors = [subgraph.tensors[index] for index in kept]
    subgraph.inputs = [moved[int(i)] for i in subgraph.inputs]
    subgraph.outputs = [moved[int(i)] for i in subgraph.outputs]
    for op in subgraph.operators:
        op.inputs = [moved[int(i)] for i in op.inputs]
        op.outputs = [moved[int(i)] for i in op.outputs]
    for details in blockwise:
        details.scales = moved[int(details.scales)]


def _block_details(tensor: Any) -> Any | None:
    details = getattr(tensor.quantization, "details", None)
    return details if hasattr(details, "blockSize") else None
