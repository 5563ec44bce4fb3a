"""Adapt a sentence encoder to pairs of your own, convert it, and show it before and after.

    python examples/finetune/finetune.py pairs.jsonl --recipe examples/finetune/minilm.toml -o adapted

Each line of `pairs.jsonl` is {"query": "...", "positive": "..."}: a question and the passage that answers it.
A tenth of the queries is held out, with all passages to choose from; the scores are for those alone. As many
others, `dev`, decide when training ends. So there must be 20 queries or more that share no passage.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
from pathlib import Path

import numpy as np

from edge_embed.errors import EdgeEmbedError, InputError
from edge_embed_train.data import Source, read_rows

HELD_OUT = 0.1
"""Share of the queries that training never sees, and share of those that decide when it ends."""

LEAST = 20
"""Groups of queries, so that two are held out and two decide."""


def split(pairs: Path, directory: Path, seed: int = 0) -> tuple[int, int, int]:
    """Writes train.jsonl and the sets `dev` and `held-out` in BEIR's layout; returns how many pairs each has.

    Pairs with equal queries or equal passages stay together, so that no held-out answer was seen.
    """
    rows = [
        {
            "query": row.query,
            "positive": row.positive or "",
            **({"negative": row.negative} if row.negative else {}),
        }
        for row in read_rows(Source(path=pairs))
    ]
    if not rows[0]["positive"]:
        raise InputError(f"{pairs} has texts alone", expected='lines of {"query": "...", "positive": "..."}')
    parents: dict[tuple[str, str], tuple[str, str]] = {}

    def group(node: tuple[str, str]) -> tuple[str, str]:
        while parents.setdefault(node, node) != node:
            node = parents[node]
        return node

    for row in rows:
        parents[group(("query", row["query"]))] = group(("positive", row["positive"]))
    groups = sorted({group(("query", row["query"])) for row in rows})
    if len(groups) < LEAST:
        raise InputError(
            f"{pairs} has too few queries to hold some out",
            got=f"{len(groups)} that share no passage",
            expected=f"{LEAST} or more; a few thousand are better",
        )
    random.Random(seed).shuffle(groups)
    count = max(1, round(HELD_OUT * len(groups)))
    sets = {"held-out": set(groups[:count]), "dev": set(groups[count : 2 * count])}
    directory.mkdir(parents=True, exist_ok=True)
    passages = {text: f"d{n}" for n, text in enumerate(dict.fromkeys(row["positive"] for row in rows))}
    parts = {
        name: [row for row in rows if group(("query", row["query"])) in kept] for name, kept in sets.items()
    }
    for name, part in parts.items():
        _write_set(directory / name, part, passages)
    kept = sets["held-out"] | sets["dev"]
    train = [row for row in rows if group(("query", row["query"])) not in kept]
    _write(directory / "train.jsonl", train)
    return len(train), len(parts["dev"]), len(parts["held-out"])


def _write_set(directory: Path, rows: list[dict[str, str]], passages: dict[str, str]) -> None:
    """Writes queries and what answers them, with all passages to choose from."""
    directory.mkdir(exist_ok=True)
    queries = {text: f"q{n}" for n, text in enumerate(dict.fromkeys(row["query"] for row in rows))}
    _write(
        directory / "corpus.jsonl", [{"_id": i, "title": "", "text": text} for text, i in passages.items()]
    )
    _write(directory / "queries.jsonl", [{"_id": i, "text": text} for text, i in queries.items()])
    lines = [f"{queries[row['query']]}\t{passages[row['positive']]}\t1" for row in rows]
    (directory / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines) + "\n", "utf-8")


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def reciprocal_rank(file: Path, directory: Path) -> float:
    """Returns the mean reciprocal rank of a model file on the held-out queries."""
    from edge_embed import Embedder
    from edge_embed.similarity import top

    corpus, queries = (
        [json.loads(line) for line in (directory / f"{name}.jsonl").read_text("utf-8").split("\n") if line]
        for name in ("corpus", "queries")
    )
    answers: dict[str, set[str]] = {}
    for line in (directory / "qrels.tsv").read_text("utf-8").split("\n")[1:-1]:
        query, passage, _ = line.split("\t")
        answers.setdefault(query, set()).add(passage)
    with Embedder(file) as model:
        asked = model.encode_query([query["text"] for query in queries])
        found = model.encode_document([passage["text"] for passage in corpus])
    ranks = []
    for query, scores in zip(queries, asked @ found.T, strict=True):
        order = [corpus[place]["_id"] for place in top(scores)]
        ranks.append(1 + min(order.index(answer) for answer in answers[query["_id"]]))
    return float(np.mean([1 / rank for rank in ranks]))


def split_once(directory: Path, pairs: Path, recipe: Path, model: str | None) -> tuple[int, int, int]:
    """Splits the pairs, but into no directory with the result of others, another recipe or another model."""
    digest = hashlib.sha256(repr(model).encode() + recipe.read_bytes() + pairs.read_bytes()).hexdigest()
    made_of = directory / "made-of.txt"
    used = directory.is_dir() and any(directory.iterdir())
    if used and not (made_of.is_file() and made_of.read_text("utf-8") == digest):
        raise InputError(
            f"{directory} holds the result of other pairs, another recipe or another model",
            fix="choose another directory",
        )
    counts = split(pairs, directory)  # writes nothing where the pairs cannot be used
    made_of.write_text(digest, "utf-8")
    return counts


def main() -> int:
    """Runs the example."""
    from edge_embed_convert import convert
    from edge_embed_train.recipe import read_recipe
    from edge_embed_train.run import train

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--recipe", type=Path, default=Path(__file__).with_name("minilm.toml"))
    parser.add_argument("--model", help="start from this checkpoint and not from the recipe's")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    seen, dev, held = split_once(args.output, args.pairs, args.recipe, args.model)
    print(f"{seen} pairs to train with, {dev} to decide when it ends, {held} held out")
    recipe = args.output / "recipe.toml"
    text = args.recipe.read_text("utf-8")
    if args.model:
        start = next(line for line in text.splitlines() if line.startswith("model = "))
        place = Path(args.model)
        text = text.replace(start, f'model = "{place.resolve() if place.exists() else args.model}"')
    recipe.write_text(text, "utf-8")
    files = {}
    for when, checkpoint in (
        ("before", lambda: read_recipe(recipe).model),
        ("after", lambda: train(recipe, args.output / "run").model),
    ):
        files[when] = args.output / f"{when}.tflite"
        if not files[when].is_file():
            convert(checkpoint(), files[when])
    for when, file in files.items():
        score = reciprocal_rank(file, args.output / "held-out")
        print(f"{when}: mean reciprocal rank {score:.4f}, {file.stat().st_size / 1e6:.1f} MB, {file}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EdgeEmbedError as error:
        sys.exit(f"finetune: error: {error}")
