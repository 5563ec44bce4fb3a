"""This project's own runtime under measurement. Imported in the measuring process only."""

from __future__ import annotations

import bisect
import importlib.metadata
import itertools
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from edge_embed import Embedder, __version__
from edge_embed.errors import PaddingWarning, TruncationWarning
from edge_embed.names import DOCUMENT_PROMPTS
from edge_embed.proof.self_check import bucket_for
from edge_embed.text.prompts import task_prompt_name
from edge_embed_bench.worker.measure import Job

WORDS = (
    *(
        "rain",
        "fell",
        "on",
        "the",
        "harbour",
        "while",
        "two",
        "boats",
        "came",
        "home",
        "with",
        "the",
        "catch",
    ),
    *("and", "the", "old", "keeper", "of", "the", "light", "counted", "them", "from", "his", "window", "as"),
    *("he", "had", "done", "each", "day", "for", "thirty", "years"),
)
"""Words of ordinary length, so that a text has as many tokens as ordinary prose."""


class EdgeEmbed:
    """`edge_embed.Embedder`. A batch is run one text after another, each in its own bucket."""

    def __init__(self) -> None:
        self._model: Any = None
        self._job: Any = None

    def load(self, job: Job) -> None:
        """Loads with the self-check on, as a user would."""
        self._job = job
        self._model = Embedder(
            job.model, num_threads=job.threads, weight_cache=job.cache, accelerator=job.accelerator
        )

    def embed(self, batch: Sequence[Sequence[int]]) -> Any:
        """Returns ``(n, dimension)``."""
        return np.stack([self._model.encode_tokens(ids) for ids in batch])

    def embed_texts(self, texts: Sequence[str]) -> Any:
        """Tokenizes and embeds texts without a prompt."""
        return self._model.encode(list(texts), prompt="", show_progress_bar=False)

    def embed_documents(self, texts: Sequence[str], batch: int) -> Any:
        """Tokenizes and embeds documents with the model's document prompt, cut where they do not fit."""
        with warnings.catch_warnings():
            # Expected of a corpus; the record counts what was cut.
            warnings.simplefilter("ignore", TruncationWarning)
            warnings.simplefilter("ignore", PaddingWarning)
            return self._model.encode_document(list(texts), batch_size=batch, show_progress_bar=False)

    def count(self, texts: Sequence[str]) -> tuple[list[int], int]:
        """Returns the tokens that each document is run with, and how many documents are cut."""
        limit = self._model.max_seq_length
        name = task_prompt_name(self._model.prompts, DOCUMENT_PROMPTS) or self._model.default_prompt_name
        prompt = self._model.prompts[name] if name else ""
        lengths = [len(ids) for ids in self._model.tokenize([prompt + text for text in texts])]
        return [min(length, limit) for length in lengths], sum(length > limit for length in lengths)

    def text_of(self, length: int) -> tuple[str, int]:
        """Returns a text of at most `length` tokens, as near as whole words come, and its tokens."""

        def text(words: int) -> str:
            return " ".join(itertools.islice(itertools.cycle(WORDS), words))

        def tokens(words: int) -> int:
            return len(self._model.tokenize([text(words)])[0])

        words = bisect.bisect_right(range(1, length + 1), length, key=tokens)
        return text(words), tokens(words)

    def delegate(self, length: int) -> dict[str, Any]:
        """Reports the partitions of the bucket that takes `length` tokens."""
        from edge_embed.engine.litert.delegate import partitions  # a second copy of the graph, only for this

        report = asdict(partitions(self._job.model, bucket_for(length, self._model.manifest)))
        acceleration = self._model.acceleration
        if acceleration.ran_on == "cpu":
            return report | {"ran_on": "CPU (XNNPACK)"}
        # The nodes are those of the graph. Operators outside are only known for the whole file.
        return report | {
            "partitions": 1 if acceleration.complete else None,
            "outside": acceleration.outside,
            "ran_on": str(acceleration),
        }

    def facts(self) -> dict[str, dict[str, str]]:
        """Returns versions and settings."""
        versions = {"edge-embed": __version__, "ai-edge-litert": importlib.metadata.version("ai-edge-litert")}
        settings = {"batch": "one text after another", "self-check": "on"}
        acceleration = self._model.acceleration
        if acceleration.asked != "cpu":
            settings["ran on"] = str(acceleration)
            settings |= {f"passed over {name}": why for name, why in acceleration.passed_over.items()}
        if acceleration.ran_on != "cpu":
            settings["precision"] = "float16 allowed" if acceleration.float16 else "float32"
        return {"versions": versions, "settings": settings}
