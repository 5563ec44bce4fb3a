"""How a reader and the process that runs it exchange texts and vectors: JSON over stdin and stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable

Vectors = Iterable[list[float]]


def serve(read: Callable[[str, list[str]], Vectors]) -> None:
    """Runs a reader: the container is the first argument, stdin holds the texts, stdout gets the vectors.

    Args:
        read: Returns a vector for each text.
    """
    # The wheels print; what they print must not get between the vectors.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    texts = json.loads(sys.stdin.buffer.read())
    for vector in read(sys.argv[1], texts):
        answer.write(json.dumps([float(number) for number in vector]) + "\n")
        answer.flush()
