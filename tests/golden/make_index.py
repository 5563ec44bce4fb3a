"""Writes the golden indexes and what Python finds in them, for Kotlin's search to find the same.

`index.words.db` and `index.trigrams.db` are index files, `index.json` holds questions with their vectors,
options and hits. Run `python tests/golden/make_index.py` after a change of the schema or the search that is
meant.
"""

# ruff: noqa: RUF001 - other scripts are what these texts are for

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from edge_embed import Index
from edge_embed.model_file.manifest import encode_vector
from edge_embed.retrieval.search import scan

HERE = Path(__file__).parent
DIMENSION = 64
LEXICAL = ("words", "trigrams")

SMALL = {"EXACT_BELOW": 16, "CANDIDATES": 2, "LEAST_CANDIDATES": 12, "WIDER": 3}
"""Sizes of the scan with which so few vectors are enough for the way that large indexes are searched."""


class Words:
    """A model made of arithmetic: each word has a vector, a text has their sum."""

    def fingerprint(self) -> str:
        """Returns its name."""
        return "golden words"

    def get_embedding_dimension(self) -> int:
        """Returns the dimension of the vectors."""
        return DIMENSION

    def encode_query(self, sentences: str, /) -> npt.NDArray[np.float32]:
        """Returns the vector of a query."""
        return self._vector(sentences)

    def encode_document(
        self, sentences: list[str], /, *, titles: Sequence[str | None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Returns the vectors of texts."""
        labels = titles or [None] * len(sentences)
        return np.stack([self._vector(f"{t or ''} {s}") for s, t in zip(sentences, labels, strict=True)])

    def _vector(self, text: str) -> npt.NDArray[np.float32]:
        total = np.full(DIMENSION, 0.25)
        for word in text.lower().split():
            state = zlib.crc32(word.encode())
            numbers = []
            for _ in range(DIMENSION):
                state = (1103515245 * state + 12345) % 2**31
                numbers.append(state / 2**30 - 1)
            total += numbers
        return (total / np.linalg.norm(total)).astype(np.float32)


COLOURS = ["red", "green", "blue", "yellow", "white", "black"]
THINGS = ["planet", "river", "stone", "hill", "bird", "engine", "loaf", "lamp", "boat", "roof"]
PLACES = ["over the village", "beside the old mill", "under a wide sky", "near the harbour"]


def documents(lexical: str) -> Iterator[dict[str, Any]]:
    """Yields what the indexes hold."""
    if lexical == "trigrams":
        nouns, verbs = (
            ["火星", "地球", "月亮", "大海", "小鸟", "山丘"],
            ["是红色的。", "发光。", "很安静。", "离我们很远。"],
        )
        for i in range(48):
            noun, verb = nouns[i % len(nouns)], verbs[i // len(nouns) % len(verbs)]
            yield {
                "id": f"zh-{i}",
                "text": f"{noun}{verb}第{i}天，火星和{nouns[-1 - i % 5]}都在那里。",
                "title": noun,
            }
        yield {"id": "mixed", "text": "Mars 火星 is the ＲＥＤ planet, Ångström said so."}
        return
    for i in range(150):
        colour, thing, place = COLOURS[i % 6], THINGS[i * 7 % 10], PLACES[i % 4]
        text = (
            f"The {colour} {thing} rests {place}. It was seen {i} times, once by a {COLOURS[i * 5 % 6]} lamp."
        )
        metadata = {"number": i, "colour": colour, "share": i / 8, "tags": [thing, place.split()[-1]]}
        yield {"id": f"n{i}", "text": text, "title": thing.title() if i % 3 else "", "metadata": metadata}
    section = "The dough rests. Then it rises for four hours, and the loaf is shaped beside the stove. " * 3
    text = (
        "# Bread\n\n## Dough\n\n"
        + section
        + "\n\n## Crème brûlée\n\nNot a bread: eggs, cream, sugar. "
        + section
    )
    yield {
        "id": "bread",
        "text": text,
        "title": "Bread",
        "kind": "markdown",
        "metadata": {"lang": "en", "ok": True},
    }
    for name, text in {
        "de": "Wie die Straße über den Hügel führt, weiß der Müller: STRASSE und Straßen sind eins.",
        "fr": "L'été, la crème brûlée de Noël n'est qu'un souvenir; garçon, où est le hêtre?",
        "el": "Ο ΚΌΚΚΙΝΟΣ πλανήτης: ο Οδυσσέας γύρισε στο σπίτι του.",
        "hi": "लाल ग्रह मंगल है। वह जंग से लाल है।",
        "quote": 'He said "red planet" AND (NEAR OR NOT) * ^ -- and left; 100% sure_of it.',
        "emoji": "🪐 The ringed planet 🚲 is no bicycle. " + "Long words follow here. " * 20 + "🪐 The end.",
    }.items():
        yield {"id": name, "text": text, "metadata": {"lang": name, "author": {"name": name.upper()}}}


QUESTIONS = {
    "words": (
        "the red planet",
        "Where does the green bird rest?",
        "how long must the dough rise?",
        "straße",
        "CREME BRULEE",
        "κόκκινος",
        "लाल ग्रह",
        '"red planet" AND (NEAR',
        "* ^ - OR",
        "ring🪐",
        "the and of",
        "zzz",
    ),
    "trigrams": ("火星是红色的", "大海", "很安静", "red planet ångström", "地球离我们很远吗？"),
}
SHOWN = [
    "document_id",
    "chunk",
    "text",
    "start",
    "end",
    "title",
    "headings",
    "metadata",
    "score",
    "vector_score",
    "text_score",
    "snippet",
]
"""What is kept of a hit."""

OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"mode": "vector"},
    {"mode": "text", "k": 5},
    {"k": 3, "weights": [2.0, 0.5], "snippet_length": 60, "marks": ["<", ">"]},
    {"k": 4, "per_document": True},
    {"mode": "vector", "k": 6, "diversity": 0.4},
    {"k": 5, "diversity": 0.3},
    {"mode": "vector", "min_score": 0.3},
    {"k": 5, "where": {"number": {"gte": 20, "lt": 90}, "colour": ["red", "blue"]}},
    {"mode": "vector", "k": 5, "where": {"tags": "planet"}},
    {"mode": "text", "k": 5, "where": {"lang": {"exists": True}, "author.name": {"exists": False}}},
    {"k": 5, "where": {"share": 2.5}},
    {"k": 3, "where": {"ok": True}},
    {"k": 3, "where": {"number": None, "lang": ["fr", "el", "hi"]}},
    {"k": 3, "where": {"colour": []}},
)


def build(path: Path, lexical: str) -> None:
    """Makes an index file, with documents that were deleted and replaced."""
    with Index.open(path, Words(), chunk_tokens=40, overlap=8) as index:
        index.add(documents(lexical))
        index.delete([f"n{i}" for i in range(0, 150, 11)])
        index.add([{"id": "n1", "text": "The green planet was painted anew.", "metadata": {"number": 1000}}])


def answers(path: Path, lexical: str) -> list[dict[str, Any]]:
    """Returns what is found in an index file, for every question and all options."""
    found, model = [], Words()
    for place, question in enumerate(QUESTIONS[lexical]):
        for options in OPTIONS if place < 3 else OPTIONS[:4]:
            for sizes in ({}, SMALL) if options.get("mode") != "text" else ({},):
                with contextlib.ExitStack() as stack:
                    for name, value in sizes.items():
                        stack.enter_context(mock.patch.object(scan, name, value))
                    index = stack.enter_context(Index.open(path, model, read_only=True))
                    hits = index.search(question, **_python(options))
                shown = [{name: getattr(hit, name) for name in SHOWN} for hit in hits]
                found.append({"question": question, "options": options, "small": bool(sizes), "hits": shown})
    return found


def _python(options: dict[str, Any]) -> dict[str, Any]:
    return options | ({"marks": tuple(options["marks"])} if "marks" in options else {})


def golden(path: Path) -> dict[str, Any]:
    """Returns the content of `index.json` for the index files in a folder."""
    model = Words()
    return {
        "small": SMALL,
        "vectors": {q: encode_vector(model.encode_query(q)) for qs in QUESTIONS.values() for q in qs},
        "answers": {lexical: answers(path / f"index.{lexical}.db", lexical) for lexical in LEXICAL},
    }


def main() -> None:
    """Writes the files."""
    with tempfile.TemporaryDirectory() as folder:
        for lexical in LEXICAL:
            build(Path(folder) / f"index.{lexical}.db", lexical)
            shutil.copy(Path(folder) / f"index.{lexical}.db", HERE)
        text = json.dumps(golden(Path(folder)), ensure_ascii=False, separators=(",", ":"))
    (HERE / "index.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
