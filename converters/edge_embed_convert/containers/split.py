"""A model's graph cut in two, as LiteRT-LM runs an embedding model: the table, and the encoder.

The table takes one token id and gives its vector. The encoder takes the vectors of a whole text and a mask.
The cut is made in the finished graph, so that both hold the file's own weights:

- The operators that look a token up are taken out. Their result becomes the input `embeddings`.
- The graph marks each id that is not padding by a chain that ends in a minimum with 1. Its result becomes the
  input `input_mask`.
- What lies in `embeddings` beyond the text is not defined: a reader may leave the numbers of an earlier text
  there, or none. The encoder chooses 0 by the mask. A product with the mask would keep a NaN.

What reads an id in any other way cannot be cut, and is refused.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_embed.errors import ConversionError
from edge_embed.names import INPUT_NAME, OUTPUT_NAME
from edge_embed_convert.graph.passes.compact import pack

EMBEDDINGS, INPUT_MASK = "embeddings", "input_mask"
"""Inputs of the encoder, by which LiteRT-LM finds them."""

ENCODER = "encoder"
"""What LiteRT-LM expects the signatures of the encoder to begin with."""


@dataclass(frozen=True)
class Parts:
    """The two graphs: of one token's vector, and of the encoder with a signature for each length."""

    embedder: bytes
    encoder: bytes


def split(graph: bytes, lengths: list[int]) -> Parts:
    """Cuts a graph into the token table and the encoder behind it.

    Args:
        graph: The flatbuffer of a model file.
        lengths: The input lengths whose signatures the encoder keeps.

    Raises:
        ConversionError: If something besides the table and the mask reads the ids.
    """
    from ai_edge_litert.tools import flatbuffer_utils as utils  # loads the whole schema

    model = utils.read_model_from_bytearray(bytearray(graph))
    table = _embedder(copy.copy(model), utils)
    kept = []
    for signature in model.signatureDefs:
        subgraph = model.subgraphs[signature.subgraphIndex]
        length = int(subgraph.tensors[signature.inputs[0].tensorIndex].shape[-1])
        if length in lengths:
            cut = _Cut(model, subgraph, utils)
            cut.encoder()
            kept.append((length, signature, subgraph))
    kept.sort(key=lambda entry: entry[0])
    model.subgraphs = [subgraph for _, _, subgraph in kept]
    model.signatureDefs = [
        _signature(utils, signature, index, f"{ENCODER}_{length}", subgraph, (EMBEDDINGS, INPUT_MASK))
        for index, (length, signature, subgraph) in enumerate(kept)
    ]
    return Parts(table, _packed(model))


def _embedder(model: Any, utils: Any) -> bytes:
    """Returns the graph of one token's vector."""
    signature = model.signatureDefs[0]
    subgraph = copy.copy(model.subgraphs[signature.subgraphIndex])
    subgraph.tensors = [copy.copy(tensor) for tensor in subgraph.tensors]
    subgraph.operators = [copy.copy(operator) for operator in subgraph.operators]
    model.operatorCodes, model.buffers = list(model.operatorCodes), [copy.copy(b) for b in model.buffers]
    _Cut(model, subgraph, utils).embedder()
    model.subgraphs = [subgraph]
    model.signatureDefs = [_signature(utils, signature, 0, "embedder", subgraph, (INPUT_NAME,))]
    return _packed(model)


def _signature(utils: Any, like: Any, index: int, name: str, subgraph: Any, inputs: tuple[str, ...]) -> Any:
    """Returns a signature over the inputs and the output that a subgraph has now."""
    made = copy.copy(like)
    made.signatureKey, made.subgraphIndex = name.encode(), index

    def entry(called: str, tensor: int) -> Any:
        found = utils.schema_fb.TensorMapT()
        found.name, found.tensorIndex = called.encode(), tensor
        subgraph.tensors[tensor].name = called.encode()
        return found

    made.inputs = [entry(called, i) for called, i in zip(inputs, subgraph.inputs, strict=True)]
    made.outputs = [entry(OUTPUT_NAME, int(subgraph.outputs[0]))]
    return made


def _packed(model: Any) -> bytes:
    """Returns a flatbuffer without the constants that its subgraphs no longer read."""
    used = {int(tensor.buffer) for subgraph in model.subgraphs for tensor in subgraph.tensors}
    model.metadata = None  # of the converter; it names buffers by number
    model.metadataBuffer = None
    for index, buffer in enumerate(model.buffers):
        if index not in used:
            buffer.data = None
    return pack(model)


class _Cut:
    """One subgraph, about to be cut."""

    def __init__(self, model: Any, subgraph: Any, utils: Any) -> None:
        self._model, self._subgraph, self._utils = model, subgraph, utils
        self._kinds = utils.BuiltinOperator
        self._ids = int(subgraph.inputs[0])
        self._lookups, self._vectors = self._find_lookups()
        self._length = int(subgraph.tensors[self._ids].shape[-1])

    def encoder(self) -> None:
        """Leaves the encoder: two inputs where the table and the marks were."""
        marks = self._find_marks()
        wide = self._like(self._vectors, [1, self._length, self._width()], "embeddings")
        mask = self._like(marks, [1, self._length], "input_mask")
        column = self._like(marks, [1, self._length, 1], "column")
        seen = self._like(marks, [1, self._length, 1], "seen")
        self._subgraph.tensors[seen].type = self._utils.TensorType.BOOL
        chosen = self._like(wide, [1, self._length, self._width()], "chosen")
        half = self._constant(np.float32(0.5), [], self._utils.TensorType.FLOAT32)
        zero = self._constant(np.float32(0.0), [], self._utils.TensorType.FLOAT32)
        head = [
            self._reshape(mask, column),
            self._operator(self._kinds.GREATER, [column, half], [seen], "Greater"),
            self._operator(self._kinds.SELECT_V2, [seen, wide, zero], [chosen], "SelectV2"),
        ]
        head += self._give(chosen, self._vectors) + self._give(mask, marks)
        self._drop_writers(self._vectors, marks)
        self._subgraph.operators = head + list(self._subgraph.operators)
        self._subgraph.inputs = [wide, mask]
        self._prune()

    def embedder(self) -> None:
        """Leaves the lookup, of one token."""
        first, last = self._lookups[0], self._vectors
        ids = self._like(int(first.inputs[0]), [1], INPUT_NAME)
        kept = self._ahead_of(last)
        for operator in kept:
            operator.inputs = [ids if self._is_ids(int(i)) else int(i) for i in operator.inputs]
            for index in operator.outputs:
                tensor = self._subgraph.tensors[index]
                tensor.shape = [1, *tensor.shape[1:]] if len(tensor.shape) == 2 else [1, 1, *tensor.shape[2:]]
                tensor.shapeSignature = None
        out = self._like(last, [1, 1, self._width()], OUTPUT_NAME)
        kept = [op for op in kept if self._kind(op) != self._kinds.RESHAPE]
        flat = int(kept[-1].outputs[0])
        self._subgraph.operators = [*kept, self._reshape(flat, out)]
        self._subgraph.inputs, self._subgraph.outputs = [ids], [out]
        self._prune()

    def _find_lookups(self) -> tuple[list[Any], int]:
        """Returns the operators that look ids up, and the tensor with the tokens' vectors."""
        lookups = [op for op in self._subgraph.operators if self._kind(op) == self._kinds.EMBEDDING_LOOKUP]
        lookups = [op for op in lookups if self._is_ids(int(op.inputs[0]))]
        if not lookups:
            raise _refusal("the ids are not used to look up a table")
        from_table = {int(i) for op in lookups for i in op.outputs}
        current = int(lookups[0].outputs[0])
        joining = (self._kinds.MUL, self._kinds.CAST, self._kinds.DEQUANTIZE, self._kinds.RESHAPE)
        while True:
            readers = self._readers(current)
            if len(readers) != 1 or self._kind(readers[0]) not in joining:
                break
            others = {int(i) for i in readers[0].inputs} - {current}
            if self._kind(readers[0]) == self._kinds.MUL and not (others and others <= from_table):
                break
            current = int(readers[0].outputs[0])
        if not all(self._feeds_only(int(op.outputs[0]), current) for op in lookups):
            raise _refusal("the ids are used to look up several tables")
        return lookups, current

    def _feeds_only(self, index: int, target: int) -> bool:
        while index != target:
            readers = self._readers(index)
            if len(readers) != 1:
                return False
            index = int(readers[0].outputs[0])
        return True

    def _find_marks(self) -> int:
        """Returns the tensor that is 1 where an id is not padding."""
        current, allowed = (
            self._ids,
            (self._kinds.CAST, self._kinds.SUB, self._kinds.ABS, self._kinds.RESHAPE),
        )
        for _ in self._subgraph.operators:
            readers = [op for op in self._readers(current) if op not in self._flattening()]
            if len(readers) != 1:
                break
            current = int(readers[0].outputs[0])
            if self._kind(readers[0]) == self._kinds.MINIMUM:
                return current
            if self._kind(readers[0]) not in allowed:
                break
        raise _refusal("the padding mask is computed in an unknown way")

    def _flattening(self) -> list[Any]:
        """Returns the operators that shape the ids for the lookup."""
        flat = {int(op.inputs[0]) for op in self._lookups}
        return [op for op in self._subgraph.operators if int(op.outputs[0]) in flat] + self._lookups

    def _is_ids(self, index: int) -> bool:
        """Returns whether a tensor holds the ids, in whatever shape."""
        while index != self._ids:
            writer = self._writer(index)
            if writer is None or self._kind(writer) != self._kinds.RESHAPE:
                return False
            index = int(writer.inputs[0])
        return True

    def _width(self) -> int:
        return int(self._subgraph.tensors[self._vectors].shape[-1])

    def _kind(self, operator: Any) -> int:
        return int(self._model.operatorCodes[operator.opcodeIndex].builtinCode)

    def _readers(self, index: int) -> list[Any]:
        return [op for op in self._subgraph.operators if index in [int(i) for i in op.inputs]]

    def _writer(self, index: int) -> Any | None:
        return next((op for op in self._subgraph.operators if index in [int(i) for i in op.outputs]), None)

    def _ahead_of(self, index: int) -> list[Any]:
        """Returns the operators that a tensor is computed by, in their order."""
        wanted, found = {index}, []
        for operator in reversed(self._subgraph.operators):
            if wanted & {int(i) for i in operator.outputs}:
                found.append(operator)
                if not self._is_ids(int(operator.outputs[0])):
                    wanted |= {int(i) for i in operator.inputs}
        return [op for op in reversed(found) if not self._is_ids(int(op.outputs[0]))]

    def _give(self, new: int, old: int) -> list[Any]:
        """Lets those that read one tensor read another, through a RESHAPE where their shapes differ."""
        shapes = [[int(n) for n in self._subgraph.tensors[i].shape] for i in (new, old)]
        operators = []
        if shapes[0] != shapes[1]:
            shaped = self._like(old, shapes[1], "shaped")
            operators.append(self._reshape(new, shaped))
            new = shaped
        for operator in self._readers(old):
            operator.inputs = [new if int(i) == old else int(i) for i in operator.inputs]
        return operators

    def _drop_writers(self, *tensors: int) -> None:
        self._subgraph.operators = [
            op for op in self._subgraph.operators if not set(tensors) & {int(i) for i in op.outputs}
        ]

    def _prune(self) -> None:
        """Removes what leads to no output, and checks that nothing left needs the ids."""
        wanted = {int(i) for i in self._subgraph.outputs}
        kept = []
        for operator in reversed(self._subgraph.operators):
            if wanted & {int(i) for i in operator.outputs}:
                kept.append(operator)
                wanted |= {int(i) for i in operator.inputs}
        self._subgraph.operators = kept[::-1]
        if self._ids in wanted and self._ids not in self._subgraph.inputs:
            raise _refusal("an operator other than the table and the mask reads the ids")
        self._renumber(wanted | {int(i) for i in self._subgraph.inputs})

    def _renumber(self, used: set[int]) -> None:
        tensors = self._subgraph.tensors
        # Weights with a scale per block name the tensor that holds their scales.
        blockwise = {i: tensors[i].quantization.details for i in used if i >= 0 and _has_blocks(tensors[i])}
        kept = sorted((used | {int(details.scales) for details in blockwise.values()}) - {-1})
        moved = {old: new for new, old in enumerate(kept)} | {-1: -1}  # -1: an optional input left out
        for index, details in blockwise.items():
            tensors[index] = copy.deepcopy(tensors[index])
            tensors[index].quantization.details.scales = moved[int(details.scales)]
        self._subgraph.tensors = [tensors[index] for index in kept]
        self._subgraph.inputs = [moved[int(i)] for i in self._subgraph.inputs]
        self._subgraph.outputs = [moved[int(i)] for i in self._subgraph.outputs]
        for operator in self._subgraph.operators:
            operator.inputs = [moved[int(i)] for i in operator.inputs]
            operator.outputs = [moved[int(i)] for i in operator.outputs]

    def _like(self, index: int, shape: list[int], name: str) -> int:
        """Adds a computed tensor of the type of another."""
        tensor = copy.copy(self._subgraph.tensors[index])
        tensor.shape, tensor.shapeSignature, tensor.name = shape, None, name.encode()
        tensor.buffer = 0  # the schema keeps it empty
        self._subgraph.tensors.append(tensor)
        return len(self._subgraph.tensors) - 1

    def _constant(self, value: Any, shape: list[int], kind: int) -> int:
        buffer = self._utils.BufferT()
        buffer.data = np.frombuffer(np.asarray(value).tobytes(), dtype=np.uint8)
        self._model.buffers.append(buffer)
        tensor = self._utils.TensorT()
        tensor.shape, tensor.type, tensor.name = shape, kind, b"constant"
        tensor.buffer = len(self._model.buffers) - 1
        self._subgraph.tensors.append(tensor)
        return len(self._subgraph.tensors) - 1

    def _reshape(self, source: int, target: int) -> Any:
        shape = [int(n) for n in self._subgraph.tensors[target].shape]
        places = self._constant(np.asarray(shape, dtype=np.int32), [len(shape)], self._utils.TensorType.INT32)
        operator = self._operator(self._kinds.RESHAPE, [source, places], [target], "Reshape")
        operator.builtinOptions.newShape = shape
        return operator

    def _operator(self, kind: int, inputs: list[int], outputs: list[int], options: str) -> Any:
        operator = self._utils.OperatorT()
        operator.opcodeIndex = self._code(kind)
        operator.inputs, operator.outputs = inputs, outputs
        operator.builtinOptionsType = getattr(self._utils.BuiltinOptions, f"{options}Options")
        operator.builtinOptions = getattr(self._utils.schema_fb, f"{options}OptionsT")()
        return operator

    def _code(self, kind: int) -> int:
        for index, code in enumerate(self._model.operatorCodes):
            if code.builtinCode == kind:
                return index
        code = self._utils.schema_fb.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = kind
        code.version = 1
        self._model.operatorCodes.append(code)
        return len(self._model.operatorCodes) - 1


def _has_blocks(tensor: Any) -> bool:
    return hasattr(getattr(tensor.quantization, "details", None), "blockSize")


def _refusal(reason: str) -> ConversionError:
    return ConversionError(
        "the graph cannot be split into a table and an encoder, which LiteRT-LM needs",
        got=reason,
        expected="ids that only the token table and the padding mask read",
        fix="convert the checkpoint again with this version, or write another container",
    )
