"""What the flatbuffer of a model file is made of, in bytes, by its own structure."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

_LOOKUPS = ("EMBEDDING_LOOKUP", "GATHER")


def graph_sizes(path: Path, graph_bytes: int) -> dict[str, int]:
    """Returns the bytes of the embedding table, of the other constants, and of the rest of the graph.

    The table is the largest constant that a lookup reads. The rest is operators, tensors and scales.

    Args:
        path: The model file.
        graph_bytes: How many of its first bytes are the graph.
    """
    from ai_edge_litert import schema_py_generated as schema  # slow to import

    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        model = schema.Model.GetRootAs(data, 0)
        buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
        # Large constants lie behind the flatbuffer, by offset and size; one may be the beginning of another.
        outside: dict[int, int] = {}
        for buffer in buffers:
            if buffer.Offset() > 1:
                outside[buffer.Offset()] = max(buffer.Size(), outside.get(buffer.Offset(), 0))
        sizes = [buffer.DataLength() or outside.get(buffer.Offset(), 0) for buffer in buffers]
        table = max((sizes[index] for index in _looked_up(model, schema)), default=0)
        constants = sum(buffer.DataLength() for buffer in buffers) + sum(outside.values())
        # Every view into the mapping must go before it closes.
        del model, buffers
    return {
        "embedding table": table,
        "other constants": constants - table,
        "structure and scales": graph_bytes - constants,
    }


def _looked_up(model: Any, schema: Any) -> set[int]:
    """Returns the buffers that the first signature's lookups read, also through a DEQUANTIZE."""
    codes = {getattr(schema.BuiltinOperator, name) for name in _LOOKUPS}
    graph = model.Subgraphs(0)
    operators = [graph.Operators(i) for i in range(graph.OperatorsLength())]
    producers = {op.Outputs(i): op for op in operators for i in range(op.OutputsLength())}
    found = set()
    for operator in operators:
        code = model.OperatorCodes(operator.OpcodeIndex())
        # Codes above 127 are in the newer field, others may be in either.
        if max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) not in codes:
            continue
        for tensor in (operator.Inputs(i) for i in range(operator.InputsLength())):
            found.add(graph.Tensors(tensor).Buffer())
            if tensor in producers:
                producer = producers[tensor]
                found |= {graph.Tensors(producer.Inputs(i)).Buffer() for i in range(producer.InputsLength())}
    return found
