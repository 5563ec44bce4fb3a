"""A process with the model itself, to compare the server with. One JSON object a line in, one a line out.

`python -m edge_embed_bench.serve.worker MODEL THREADS`
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np

from edge_embed import Embedder
from edge_embed_bench.errors import one_line

BULK = 256
"""Texts of one call in bulk."""

WORDS = "a river of water ran over old stone while seven small birds flew home before night".split(" ")  # noqa: SIM905


class Worker:
    """Answers requests.

    Args:
        path: The model file.
        threads: Threads; 0 for the default.
    """

    def __init__(self, path: str, threads: int) -> None:
        self._model = Embedder(path, num_threads=threads or None)

    def texts(self, lengths: list[int]) -> dict[str, Any]:
        """Returns a text of each length in tokens, special ones included; each is another text."""
        return {"texts": [self._text(length, number) for number, length in enumerate(lengths)]}

    def limits(self) -> dict[str, Any]:
        """Returns the buckets of the model."""
        return {"buckets": self._model.manifest.buckets, "name": self._model.manifest.name}

    def vectors(self, texts: list[str], path: str) -> dict[str, Any]:
        """Writes the vectors of texts to a file."""
        np.save(path, self._model.encode(texts, show_progress_bar=False))
        return {}

    def bulk(self, text: str, seconds: float) -> dict[str, Any]:
        """Embeds one text again and again, many in each call."""
        texts, done, started = [text] * BULK, 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            self._model.encode(texts, show_progress_bar=False)
            done += BULK
        return {"texts": done, "seconds": time.perf_counter() - started}

    def single(self, text: str, seconds: float) -> dict[str, Any]:
        """Embeds one text again and again, one in each call."""
        samples, started = [], time.perf_counter()
        while (before := time.perf_counter()) - started < seconds:
            self._model.encode(text, show_progress_bar=False)
            samples.append(time.perf_counter() - before)
        return {"samples": samples}

    def _text(self, length: int, number: int) -> str:
        """Returns a text of exactly this number of tokens, or of one fewer where no word fits."""
        words: list[str] = []
        while True:
            word = WORDS[(number * 7 + len(words) * (1 + number % 5)) % len(WORDS)]
            if len(self._model.tokenize(" ".join([*words, word]))[0]) > length:
                return " ".join(words)
            words.append(word)


def serve(words: list[str]) -> None:
    """Answers requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    worker = Worker(words[0], int(words[1]))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("op"))(**request)
        except Exception as error:  # noqa: BLE001 - the parent raises it
            answer = {"error": one_line(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(sys.argv[1:])
