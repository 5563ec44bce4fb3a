"""The losses against plain loops written from the paper's formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from edge_embed.errors import InputError
from edge_embed_train.losses import (
    CachedEmbeddingLoss,
    EmbeddingLoss,
    LossOptions,
    cut,
    matching,
    nce,
    relational,
    spread_out,
    within_rows,
)
from edge_embed_train.losses.loss import text_keys

T = 0.07


def _cosine(a: Tensor, b: Tensor) -> float:
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(float(x) ** 2 for x in a)) / math.sqrt(sum(float(x) ** 2 for x in b))


def _vectors(seed: int, count: int = 6, size: int = 5) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _nce_by_loop(
    queries: Tensor, positives: Tensor, hard: Tensor | None, query_names: str, positive_names: str
) -> float:
    total = 0.0
    for i in range(len(queries)):
        below = 0.0
        if hard is not None:
            s = _cosine(queries[i], hard[i])
            below += math.exp(5.0 * s) * math.exp(s / T)
        for j in range(len(queries)):
            same = query_names[i] == query_names[j] or positive_names[i] == positive_names[j]
            if i == j or not same:
                below += math.exp(_cosine(queries[i], positives[j]) / T)
        total -= math.log(math.exp(_cosine(queries[i], positives[i]) / T) / below)
    return total / len(queries)


def _keys(names: str) -> tuple[Tensor, Tensor]:
    keys = torch.tensor([ord(name) for name in names])
    return keys, keys


@pytest.mark.parametrize("with_negative", [False, True])
@pytest.mark.parametrize(
    ("query_names", "positive_names"), [("abcdef", "uvwxyz"), ("aacdef", "uvwxyy"), ("aaaaaa", "uuuuuu")]
)
def test_nce_equals_the_formula(query_names: str, positive_names: str, with_negative: bool) -> None:
    queries, positives, hard = _vectors(0), _vectors(1), _vectors(2)
    ours = nce(
        queries,
        positives,
        [hard] if with_negative else [],
        temperature=T,
        query_keys=_keys(query_names),
        positive_keys=_keys(positive_names),
    )
    loop = _nce_by_loop(queries, positives, hard if with_negative else None, query_names, positive_names)
    assert float(ours) == pytest.approx(loop, rel=1e-9)


def test_the_weight_of_a_hard_negative_gives_no_gradient() -> None:
    queries, positives, hard = _vectors(0), _vectors(1), _vectors(2).requires_grad_()
    nce(queries, positives, [hard], temperature=T).backward()

    def frozen(x: Tensor) -> Tensor:
        """The loss with the weights as numbers that were computed before."""
        q, p, n = (nn.functional.normalize(v, dim=-1) for v in (queries, positives, x))
        s = (q * n).sum(-1)
        weights = torch.exp(5.0 * (q * nn.functional.normalize(hard.detach(), dim=-1)).sum(-1))
        below = weights * torch.exp(s / T) + torch.exp(q @ p.T / T).sum(-1)
        return -torch.log(torch.exp((q * p).sum(-1) / T) / below).mean()

    again = hard.detach().clone().requires_grad_()
    frozen(again).backward()
    assert hard.grad is not None
    torch.testing.assert_close(hard.grad, again.grad)


def test_a_hard_negative_of_another_query_does_not_count() -> None:
    queries, positives, hard = _vectors(0), _vectors(1), _vectors(2).requires_grad_()
    q, p = (nn.functional.normalize(v, dim=-1) for v in (queries, positives))
    n = nn.functional.normalize(hard, dim=-1)
    first = nce(q[:1], p, [n[:1]], temperature=T)
    first.backward()
    assert hard.grad is not None
    assert bool((hard.grad[1:] == 0).all())


def test_spread_out_equals_the_formula() -> None:
    vectors = _vectors(3)
    n = len(vectors)
    loop = sum(_cosine(vectors[i], vectors[j]) ** 2 for i in range(n) for j in range(n) if i != j)
    assert float(spread_out(vectors)) == pytest.approx(loop / (n * (n - 1)), rel=1e-9)
    assert float(spread_out(vectors[:1])) == 0.0


def test_matching_equals_the_formula() -> None:
    student, teacher = _vectors(4), _vectors(5)
    cosines = [_cosine(a, b) for a, b in zip(student, teacher, strict=True)]
    assert float(matching(student, teacher, "cosine")) == pytest.approx(1 - sum(cosines) / 6)
    units = [v / v.norm(dim=-1, keepdim=True) for v in (student, teacher)]
    squared = sum(float(((a - b) ** 2).sum()) for a, b in zip(*units, strict=True)) / 6
    assert float(matching(student, teacher, "l2")) == pytest.approx(squared)


def test_relational_equals_the_formula() -> None:
    student, teacher = _vectors(4), _vectors(5, size=7)
    loop = sum(
        (_cosine(student[i], student[j]) - _cosine(teacher[i], teacher[j])) ** 2
        for i in range(6)
        for j in range(6)
    )
    assert float(relational(student, teacher)) == pytest.approx(loop / 36)


def test_within_rows_compares_the_texts_of_each_row() -> None:
    student, teacher = [_vectors(s) for s in (4, 5, 6)], [_vectors(s, size=7) for s in (7, 8, 9)]
    loop = sum(
        (_cosine(student[a][i], student[b][i]) - _cosine(teacher[a][i], teacher[b][i])) ** 2
        for a, b in ((0, 1), (0, 2), (1, 2))
        for i in range(6)
    )
    assert float(within_rows(student, teacher)) == pytest.approx(loop / 18)
    assert float(within_rows(student, [2.0 * each for each in student])) == pytest.approx(0.0)


def test_keys_are_those_of_the_tokens_and_not_of_the_padding() -> None:
    ids = torch.tensor([[5, 6, 0, 0], [5, 6, 7, 0], [6, 5, 0, 0], [5, 6, 0, 9]])
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 0, 0]])
    keys = text_keys(ids, mask).tolist()
    assert keys[0] == keys[3]
    assert len(set(keys[:3])) == 3
    assert text_keys(ids[:, :2], mask[:, :2]).tolist()[0] == keys[0]


class Tiny(nn.Module):
    """A model with the interface that losses use: mean of token vectors, then a projection."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.layer = nn.Embedding(30, 8), nn.Linear(8, 6)

    def get_embedding_dimension(self) -> int:
        return 6

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        mask = features["attention_mask"][..., None].float()
        mean = (self.table(features["input_ids"]) * mask).sum(1) / mask.sum(1)
        return {"sentence_embedding": self.layer(mean)}


def _features(columns: int, rows: int = 6) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(columns)
    ids = torch.randint(1, 30, (columns, rows, 4), generator=generator)
    return [{"input_ids": column, "attention_mask": torch.ones_like(column)} for column in ids]


def _teacher(rows: Tensor, column: int) -> Tensor:
    return _vectors(10 + column, 9, 6).float()[rows]


OPTIONS = LossOptions(
    nce=1.0, spread_out=0.5, matching=2.0, relational=0.25, within_rows=0.75, dimensions=(6, 3)
)


def test_the_terms_add_up_over_columns_and_dimensions() -> None:
    model, features, labels = Tiny(), _features(3), torch.tensor([8, 1, 2, 3, 4, 0])
    terms = EmbeddingLoss(model, OPTIONS, _teacher)(features, labels)
    q, p, n = (model(column)["sentence_embedding"] for column in features)
    targets = [_teacher(labels, place) for place in range(3)]
    assert float(terms["nce"]) == pytest.approx(
        sum(
            float(nce(cut(q, d), cut(p, d), [cut(n, d)], temperature=OPTIONS.temperature, hardness=5.0))
            for d in (6, 3)
        ),
        rel=1e-5,
    )
    spread = sum(float(spread_out(cut(v, d))) for d in (6, 3) for v in (q, p))
    assert float(terms["spread_out"]) == pytest.approx(0.5 * spread, rel=1e-5)
    distances = [float(matching(v, t)) for v, t in zip((q, p, n), targets, strict=True)]
    assert float(terms["matching"]) == pytest.approx(2.0 * sum(distances), rel=1e-5)
    compared = sum(
        float(relational(cut(v, d), t)) for d in (6, 3) for v, t in zip((q, p, n), targets, strict=True)
    )
    assert float(terms["relational"]) == pytest.approx(0.25 * compared, rel=1e-5)
    rows = sum(float(within_rows([cut(v, d) for v in (q, p, n)], targets)) for d in (6, 3))
    assert float(terms["within_rows"]) == pytest.approx(0.75 * rows, rel=1e-5)
    assert set(EmbeddingLoss(model, OPTIONS, _teacher)(features[:1], labels)) == {
        "spread_out",
        "matching",
        "relational",
    }


@pytest.mark.parametrize("columns", [1, 3])
def test_gradcache_gives_the_same_gradients(columns: int) -> None:
    labels, gradients = torch.arange(6), []
    for size in (None, 2, 4):
        model = Tiny()
        if size is None:
            terms = EmbeddingLoss(model, OPTIONS, _teacher)(_features(columns), labels)
            loss = torch.stack(list(terms.values())).sum()
        else:
            loss = CachedEmbeddingLoss(model, OPTIONS, _teacher, mini_batch_size=size)(
                _features(columns), labels
            )
        loss.backward()
        gradients.append((float(loss), [p.grad for p in model.parameters()]))
    for value, grads in gradients[1:]:
        assert value == pytest.approx(gradients[0][0], rel=1e-6)
        torch.testing.assert_close(grads, gradients[0][1])


def test_impossible_options_are_refused() -> None:
    with pytest.raises(InputError, match="teacher"):
        EmbeddingLoss(Tiny(), LossOptions(matching=1.0))
    with pytest.raises(InputError, match="Matryoshka"):
        EmbeddingLoss(Tiny(), LossOptions(dimensions=(6, 7)))
