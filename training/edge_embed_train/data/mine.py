"""Hard negatives: for each query a passage that the teacher finds alike and that does not answer it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_embed.errors import InputError
from edge_embed_train.data.sources import Row
from edge_embed_train.data.tables import Table, facts_of, write_table, writing

BLOCK = 512
"""Queries that are compared with all passages together."""

CANDIDATES = 64
"""Most alike passages that are looked at for each query."""

NAMING = 256
"""Vectors of a column that the name of a file of negatives is computed from, about."""


def mine_negatives(
    table: Table,
    queries: npt.NDArray[np.float16],
    positives: npt.NDArray[np.float16],
    directory: Path,
    *,
    margin: float,
    seed: int,
    among: int,
    advance: Callable[[int], object],
) -> tuple[Table, npt.NDArray[np.int64]]:
    """Returns a table of triples, and for each row the row whose positive became its negative.

    A passage is left out if it is the positive's text, belongs to an equal query, or is more alike than
    `margin` times the similarity of the positive: such a passage is likely to be an answer as well (as in
    NV-Retriever, arXiv 2407.15831). Where nothing is left the negative is drawn at random from the passages
    that do not belong to an equal query.

    Args:
        table: Pairs.
        queries: The teacher's vectors of the queries, of unit length.
        positives: The teacher's vectors of the positives.
        directory: Where tables are kept.
        margin: 0.95 is usual.
        seed: Of the draws.
        among: The negative is drawn from this number of the most similar passages that are left.
        advance: Called with the number of queries just done.

    Raises:
        InputError: If the table has no positives, or every passage answers a query.
        TrainingError: If the negatives cannot be written.
    """
    if len(table.columns) != 2 or table.rows < 2:
        raise InputError(
            f"hard negatives cannot be mined in {table.name}",
            got=f"{table.rows} rows of {', '.join(table.columns)}",
            expected="two or more pairs: query and positive",
        )
    name = f"{table.fingerprint}-mined-{margin:g}-{among}-{seed}-{_digest(queries, positives)}"
    places, path = directory / f"{name}.negatives.npy", directory / f"{name}.arrow"
    negatives = _stored(places, table.rows)
    if negatives is None:
        chosen = _choose(table, queries, positives, margin, seed, among, advance)
        scratch = places.with_suffix(".part.npy")
        with writing(f"the hard negatives of {table.name}", places):
            directory.mkdir(parents=True, exist_ok=True)
            facts_of(path).unlink(missing_ok=True)  # triples of other negatives would have wrong vectors
            np.save(scratch, chosen)
            os.replace(scratch, places)
        negatives = np.load(places, mmap_mode="r")
    return write_table(table.name, _triples(table, negatives), path, lambda _: None), negatives


def _digest(*columns: npt.NDArray[np.float16]) -> str:
    """Names vectors, and so the teacher that they are of."""
    digest = hashlib.blake2b(digest_size=8)
    for vectors in columns:
        digest.update(repr(vectors.shape).encode())
        digest.update(vectors[:: max(1, len(vectors) // NAMING)].tobytes())
    return digest.hexdigest()


def _stored(places: Path, rows: int) -> npt.NDArray[np.int64] | None:
    """Returns what an earlier run has mined, None where there is nothing that can be used."""
    try:
        negatives: npt.NDArray[np.int64] = np.load(places, mmap_mode="r")
    except (OSError, EOFError, ValueError):  # absent, empty, or cut off
        return None
    return negatives if negatives.shape == (rows,) and negatives.dtype == np.int64 else None


def _choose(
    table: Table,
    queries: npt.NDArray[np.float16],
    positives: npt.NDArray[np.float16],
    margin: float,
    seed: int,
    among: int,
    advance: Callable[[int], object],
) -> npt.NDArray[np.int64]:
    query_ids, positive_ids = (_numbered(table.texts(column)) for column in ("query", "positive"))
    # Of equal passages one is enough. Their numbers count from 0, so they are places in this array.
    passages = np.unique(positive_ids, return_index=True)[1]
    owners: dict[int, set[int]] = {}
    for query, positive in zip(query_ids.tolist(), positive_ids.tolist(), strict=True):
        owners.setdefault(query, set()).add(positive)
    vectors = positives[passages].astype(np.float32)
    generator = np.random.default_rng(seed)
    chosen = np.empty(table.rows, np.int64)
    for start in range(0, table.rows, BLOCK):
        own = queries[start : start + BLOCK].astype(np.float32)
        scores = own @ vectors.T
        best = np.argpartition(-scores, min(CANDIDATES, scores.shape[1] - 1), axis=1)[:, :CANDIDATES]
        limits = margin * (own * positives[start : start + BLOCK].astype(np.float32)).sum(1)
        for place in range(len(own)):
            row = start + place
            answers = owners[int(query_ids[row])]
            others = len(passages) - len(answers)
            if not others:
                raise InputError(
                    f"{table.name} has no negative for row {row + 1}: every positive answers its query",
                    got=table.texts("query")[row][:80],
                    expected="one positive or more that does not answer the query",
                    fix="add rows of other queries, or leave hard_negatives out",
                )
            ordered = best[place][np.argsort(-scores[place][best[place]], kind="stable")]
            left = [
                passages[candidate]
                for candidate in ordered
                if scores[place, candidate] < limits[place] and int(candidate) not in answers
            ][:among]
            another = passages[_skipping(answers, int(generator.integers(others)))]
            chosen[row] = left[generator.integers(len(left))] if left else another
        advance(len(own))
    return chosen


def _skipping(left_out: set[int], place: int) -> int:
    """Returns the number that stands at a place among 0, 1, 2 and so on when some numbers are left out."""
    for number in sorted(left_out):
        place += number <= place
    return place


def _numbered(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Returns one number per text, equal for equal texts."""
    seen: dict[str, int] = {}
    return np.fromiter((seen.setdefault(text, len(seen)) for text in texts), np.int64)


def _triples(table: Table, negatives: npt.NDArray[np.int64]) -> Iterator[Row]:
    passages = table.texts("positive")
    for number, query in enumerate(table.texts("query")):
        yield Row(query, passages[number], passages[int(negatives[number])])
