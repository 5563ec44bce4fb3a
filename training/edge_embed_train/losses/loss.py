"""The combined loss, as a module that sentence-transformers' trainer takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from sentence_transformers.base.losses.gradcache import CachedLossMixin
from sentence_transformers.util import all_gather_with_grad, get_rank, get_world_size
from torch import Tensor, nn

from edge_embed.errors import InputError
from edge_embed_train.losses.formulas import (
    HARDNESS,
    Metric,
    cut,
    matching,
    nce,
    relational,
    spread_out,
    within_rows,
)

Features = dict[str, Tensor]


@dataclass(frozen=True)
class LossOptions:
    """What the loss is made of. A weight of 0 leaves its term out.

    Attributes:
        nce: Weight of the contrastive loss.
        spread_out: Weight of the spread-out regularizer.
        matching: Weight of embedding matching; needs teacher vectors.
        relational: Weight of matching the similarities within a batch; needs teacher vectors.
        within_rows: Weight of matching the similarities between the texts of a row, such as a text and its
            `variants`; needs teacher vectors.
        temperature: Of the contrastive loss. The paper does not publish it; 0.05 is what
            sentence-transformers uses.
        hardness: Of the hard negatives' weights.
        metric: Of embedding matching.
        dimensions: Matryoshka dimensions. The contrastive loss, the regularizer and the two terms that match
            similarities are summed over them, unweighted; empty means the full dimension only.
    """

    nce: float = 1.0
    spread_out: float = 1.0
    matching: float = 0.0
    relational: float = 0.0
    within_rows: float = 0.0
    temperature: float = 0.05
    hardness: float = HARDNESS
    metric: Metric = "l2"
    dimensions: tuple[int, ...] = ()

    @property
    def needs_teacher(self) -> bool:
        """Whether any term compares with a teacher."""
        return bool(self.matching or self.relational or self.within_rows)

    @property
    def needs_positives(self) -> bool:
        """Whether the contrastive loss is part of it."""
        return bool(self.nce)


class TeacherVectors(Protocol):
    """Teacher vectors by row and column of the data."""

    def __call__(self, rows: Tensor, column: int) -> Tensor:
        """Returns the vectors ``(n, d)`` of the texts in a column at some rows."""
        ...


class EmbeddingLoss(nn.Module):
    """EmbeddingGemma's loss over columns query, positive, hard negatives.

    A batch with one column, texts alone, gets the terms that need no positives: the regularizer and matching.

    Args:
        model: The sentence-transformers model.
        options: Terms and their weights.
        teacher: Teacher vectors; labels are then the rows of the data.

    Raises:
        InputError: If a term needs a teacher and there is none, or a dimension is larger than the model's.
    """

    uses_gradient_cache = False
    teacher: TeacherVectors | None

    def __init__(self, model: Any, options: LossOptions, teacher: TeacherVectors | None = None) -> None:
        super().__init__()
        self.model, self.options, self.teacher = model, options, teacher
        if options.needs_teacher and teacher is None:
            raise InputError("the loss needs a teacher and the recipe names none", fix="name a teacher")
        full = model.get_embedding_dimension()
        if any(not 0 < dimension <= full for dimension in options.dimensions):
            raise InputError(
                "a Matryoshka dimension does not fit the model",
                got=", ".join(map(str, options.dimensions)),
                expected=f"1 to {full}",
            )
        self.dimensions = options.dimensions or (full,)

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None) -> dict[str, Tensor]:
        """Returns each term, weighted, by name."""
        features = list(sentence_features)
        keys = [text_keys(column["input_ids"], column["attention_mask"]) for column in features]
        vectors = [self.model(column)["sentence_embedding"] for column in features]
        return self.terms(vectors, keys, labels)

    def terms(
        self, vectors: Sequence[Tensor], keys: Sequence[Tensor], labels: Tensor | None
    ) -> dict[str, Tensor]:
        """Returns each term, weighted, by name, from the vectors of every column.

        Args:
            vectors: One ``(n, d)`` per column: queries, positives, hard negatives.
            keys: The texts' keys, one ``(n,)`` per column.
            labels: Rows of the data ``(n,)``, for the teacher's vectors.
        """
        options, found = self.options, dict[str, Tensor]()
        vectors = [column.float() for column in vectors]  # logits and squares in float32, under bf16 too
        every = [_gathered(column) for column in vectors[:2]]
        offset = get_rank() * len(vectors[0])
        if options.nce and len(vectors) > 1:
            every_keys = [_gathered(column) for column in keys[:2]]
            found["nce"] = options.nce * self._sum(
                lambda d: nce(
                    cut(vectors[0], d),
                    cut(every[1], d),
                    [cut(hard, d) for hard in vectors[2:]],
                    temperature=options.temperature,
                    hardness=options.hardness,
                    query_keys=(keys[0], every_keys[0]),
                    positive_keys=(keys[1], every_keys[1]),
                    offset=offset,
                )
            )
        if options.spread_out:
            found["spread_out"] = options.spread_out * self._sum(
                lambda d: torch.stack(
                    [
                        spread_out(cut(own, d), cut(all_of_it, d), offset)
                        for own, all_of_it in zip(vectors[:2], every, strict=True)
                    ]
                ).sum()
            )
        if options.needs_teacher and self.teacher is not None:
            if labels is None:
                raise InputError(
                    "the data has no row numbers, which are needed to find the teacher's vectors"
                )
            targets = [self.teacher(labels, place).to(column) for place, column in enumerate(vectors)]
            pairs = list(zip(vectors, targets, strict=True))
            if options.matching:
                distances = [matching(*pair, metric=options.metric) for pair in pairs]
                found["matching"] = options.matching * torch.stack(distances).sum()
            if options.relational:
                among = [(*pair, *map(_gathered, pair)) for pair in pairs]
                found["relational"] = options.relational * self._sum(
                    lambda d: torch.stack(
                        [
                            relational(cut(own, d), target, cut(others, d), targets_of_others)
                            for own, target, others, targets_of_others in among
                        ]
                    ).sum()
                )
            if options.within_rows and len(vectors) > 1:
                found["within_rows"] = options.within_rows * self._sum(
                    lambda d: within_rows([cut(column, d) for column in vectors], targets)
                )
        return found

    def _sum(self, term: Any) -> Tensor:
        return torch.stack([term(dimension) for dimension in self.dimensions]).sum()

    def get_config_dict(self) -> dict[str, Any]:
        """Returns the options, for the model card."""
        return asdict(self.options)


class CachedEmbeddingLoss(CachedLossMixin, EmbeddingLoss):  # type: ignore[misc]
    """`EmbeddingLoss` with GradCache: memory for a small part of the batch, results of the whole.

    Args:
        model: The sentence-transformers model.
        options: Terms and their weights.
        teacher: Teacher vectors.
        mini_batch_size: Texts that are embedded together.
    """

    uses_gradient_cache = True

    def __init__(
        self,
        model: Any,
        options: LossOptions,
        teacher: TeacherVectors | None = None,
        mini_batch_size: int = 32,
    ) -> None:
        super().__init__(model, options, teacher)
        self.mini_batch_size = mini_batch_size
        self._keys: list[Tensor] = []

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None) -> Tensor:  # type: ignore[override]
        """Returns the sum of the terms; gradients come through a hook at its backward pass."""
        features = list(sentence_features)
        self._keys = [text_keys(column["input_ids"], column["attention_mask"]) for column in features]
        loss: Tensor = CachedLossMixin.forward_cached(self, features, labels)
        return loss

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """Returns the loss from the embeddings of all mini-batches, and runs its backward pass on request."""
        terms = self.terms([torch.cat(column) for column in reps], self._keys, labels)
        loss = torch.stack(list(terms.values())).sum()
        if with_backward:
            torch.autograd.backward(loss)
            loss = loss.detach()
        return loss


_MULTIPLIER = 6364136223846793005
"""An odd 64-bit constant with well mixed bits (Knuth's MMIX generator)."""


def text_keys(ids: Tensor, mask: Tensor) -> Tensor:
    """Returns one int64 per text, equal for texts with equal tokens, whatever they are padded to.

    Args:
        ids: Token ids ``(n, length)``.
        mask: 1 for tokens, 0 for padding, ``(n, length)``.
    """
    keys = torch.zeros(len(ids), dtype=torch.int64, device=ids.device)
    for column in range(ids.shape[1]):
        # Arithmetic of int64 wraps around, which is what mixes.
        mixed = (keys ^ (ids[:, column].long() + 1)) * _MULTIPLIER
        keys = torch.where(mask[:, column].bool(), mixed ^ (mixed >> 29), keys)
    return keys


def _gathered(tensor: Tensor) -> Tensor:
    """Returns the rows of all processes, with gradients to each."""
    if get_world_size() == 1:
        return tensor
    gathered: Tensor = all_gather_with_grad(tensor)
    return gathered
