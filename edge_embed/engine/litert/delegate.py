"""How the XNNPACK delegate takes a graph. Only to inspect a file: it prepares a second copy of the graph."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from edge_embed.engine.litert.calls import call_litert
from edge_embed.engine.litert.flatbuffer import keep_only, mapped
from edge_embed.names import signature_name

_PARTITION = "DELEGATE"


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

    operators, outputs = call_litert(f"LiteRT cannot prepare {os.fspath(path)}", prepare)
    return _report(operators, outputs)


def _report(operators: list[dict[str, Any]], outputs: list[int]) -> DelegateReport:
    """Finds what runs, from the outputs backwards.

    The list holds every operator of the file, also those inside a partition, and then the partitions. So a
    tensor that both produce comes from the partition.
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
