"""The loop of a measuring process: one JSON object a line in, one a line out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

from edge_embed_bench.errors import one_line


def answer_requests(make: Callable[[], object]) -> None:
    """Answers requests until the input ends.

    A request names a method of the worker in `op`, and its arguments; the method's result is the answer.

    Args:
        make: Makes the worker.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # engines and libraries print; their words must not be taken for answers
    worker = make()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("op"))(**request)
        except Exception as error:  # noqa: BLE001 - the parent raises it, or makes it a row
            answer = {"error": one_line(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
