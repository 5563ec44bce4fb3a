"""The formulas, as functions of vectors. Their source is EmbeddingGemma's paper, arXiv 2509.20354.

Vectors are rows. A batch may be spread over several processes: then queries are those of this process, and
the documents (`positives`) are those of all processes, with `offset` the place of the first own one among
them. In one process `offset` is 0 and both have the same number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

HARDNESS = 5.0
"""The factor in the hard negative's weight exp(5 * stopgrad(similarity)), as published."""

Key = Tensor
"""One int64 per text: equal for equal texts. See `loss.text_keys`."""

Metric = Literal["l2", "cosine"]


def nce(
    queries: Tensor,
    positives: Tensor,
    negatives: Sequence[Tensor] = (),
    *,
    temperature: float,
    hardness: float = HARDNESS,
    query_keys: tuple[Key, Key] | None = None,
    positive_keys: tuple[Key, Key] | None = None,
    offset: int = 0,
) -> Tensor:
    """Returns the mean contrastive loss of the queries.

    For query i, with cosine similarity s and temperature t::

        -log( exp(s(q_i, p_i) / t) / (w_i exp(s(q_i, n_i) / t) + sum_j m_ij exp(s(q_i, p_j) / t)) )
        w_i = exp(hardness * stopgrad(s(q_i, n_i)))

    Only the query's own hard negatives stand in the sum. m_ij is 0 where query j or positive j is the same
    text as query i or positive i, and 1 elsewhere. Read literally that would drop j = i as well; the positive
    stays.

    Args:
        queries: Shape ``(n, d)``.
        positives: Shape ``(m, d)``, m >= n; row ``offset + i`` belongs to query i.
        negatives: Any number of hard negatives per query, each ``(n, d)``. The paper has one.
        temperature: Divides every similarity. The paper does not publish it.
        hardness: The factor in the weight; 0 gives weight 1.
        query_keys: Keys of the own queries ``(n,)`` and of the queries of all positives ``(m,)``.
        positive_keys: Keys of the own positives ``(n,)`` and of all positives ``(m,)``.
        offset: The place of the first own positive.
    """
    queries, positives = normalize(queries, dim=-1), normalize(positives, dim=-1)
    logits = queries @ positives.T / temperature
    own = torch.arange(len(queries), device=queries.device) + offset
    same = torch.zeros_like(logits, dtype=torch.bool)
    for keys in (query_keys, positive_keys):
        if keys is not None:
            same |= keys[0][:, None] == keys[1][None, :]
    same[torch.arange(len(queries), device=queries.device), own] = False
    columns = [logits.masked_fill(same, -torch.inf)]
    for hard in negatives:
        similarity = (queries * normalize(hard, dim=-1)).sum(-1, keepdim=True)
        columns.append(similarity / temperature + hardness * similarity.detach())
    return torch.nn.functional.cross_entropy(torch.cat(columns, dim=1), own)


def spread_out(own: Tensor, every: Tensor | None = None, offset: int = 0) -> Tensor:
    """Returns the mean of (x_i . x_j)^2 over all pairs i != j of different rows.

    Args:
        own: Vectors of this process, ``(n, d)``; they are normalized first.
        every: Vectors of all processes, ``(m, d)``; by default `own`.
        offset: The index of the first own row in `every`.
    """
    own = normalize(own, dim=-1)
    every = own if every is None else normalize(every, dim=-1)
    if len(every) < 2:
        return own.sum() * 0.0
    squares = (own @ every.T).square()
    rows = torch.arange(len(own), device=own.device)
    itself = squares[rows, rows + offset].sum()
    return (squares.sum() - itself) / (len(own) * (len(every) - 1))


def matching(student: Tensor, teacher: Tensor, metric: Metric = "l2") -> Tensor:
    """Returns the mean distance between the student's and the teacher's vectors of the same texts.

    The paper does not name its metric; EmbedDistill, which it cites, is Euclidean.

    Args:
        student: Shape ``(n, d)``; normalized first, as is the teacher.
        teacher: Shape ``(n, d)``.
        metric: ``l2``, the squared Euclidean distance of unit vectors, or ``cosine``, 1 - cosine, half of it.
    """
    cosine = (normalize(student, dim=-1) * normalize(teacher, dim=-1)).sum(-1).mean()
    return (1.0 - cosine) * (2.0 if metric == "l2" else 1.0)


def relational(
    student: Tensor, teacher: Tensor, every: Tensor | None = None, every_teacher: Tensor | None = None
) -> Tensor:
    """Returns the mean squared difference of the cosines between all pairs of texts in the batch.

    It is not in the paper. It needs no equal dimensions, because only similarities are compared.

    Args:
        student: Vectors of this process, ``(n, d)``.
        teacher: The teacher's, ``(n, D)``.
        every: The student's vectors of all processes, ``(m, d)``; by default the own ones.
        every_teacher: The teacher's of all processes, ``(m, D)``.
    """
    ours = normalize(student, dim=-1) @ normalize(student if every is None else every, dim=-1).T
    theirs = normalize(teacher, dim=-1)
    theirs = theirs @ normalize(teacher if every_teacher is None else every_teacher, dim=-1).T
    return (ours - theirs).square().mean()


def within_rows(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Returns the mean squared difference of the cosines between the texts of each row to the teacher's.

    It is not in the paper. With versions of a text as the other columns, it shows what each change means.

    Args:
        student: One ``(n, d)`` for each column, two columns or more.
        teacher: One ``(n, D)`` for each column.
    """
    ours, theirs = (
        torch.stack(
            [(one * two).sum(-1) for one, two in combinations([normalize(c, dim=-1) for c in each], 2)]
        )
        for each in (student, teacher)
    )
    return (ours - theirs).square().mean()


def cut(vectors: Tensor, dimension: int) -> Tensor:
    """Returns the first numbers of each vector, normalized: one Matryoshka dimension."""
    return normalize(vectors[..., :dimension], dim=-1)
