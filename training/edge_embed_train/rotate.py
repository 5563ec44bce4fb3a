"""Turn a model's vectors so that their first numbers alone order near texts as the whole vectors do.

A turn changes no cosine of whole vectors. It goes into the last Dense module, so it costs nothing later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from edge_embed.errors import InputError
from edge_embed.progress import progress_bar
from edge_embed_train.data import Table, build_table, principal_axes
from edge_embed_train.qat import (
    quantize_model,
    restore_model,
    rounded_weight,
    trainable_recipe,
    trained_recipe,
)
from edge_embed_train.recipe import Recipe, RotateStage

if TYPE_CHECKING:
    from edge_embed_train.run.folder import RunFolder

BATCH = 48
"""Texts of a step."""

RATE = 3e-3
"""The highest learning rate, of Adam; it falls to 0 along a cosine."""


def rotate(
    recipe: Recipe, stage: RotateStage, place: str | Path, target: Path, folder: RunFolder
) -> dict[str, float]:
    """Writes a checkpoint whose vectors are turned.

    Args:
        recipe: The recipe.
        stage: What is turned for.
        place: The checkpoint that it starts from.
        target: The checkpoint to write.
        folder: Of the run.

    Returns:
        By number of dimensions, what `lost_order` says before and after.

    Raises:
        InputError: If the model has fewer dimensions than the stage names, or the data too few texts.
    """
    from edge_embed_train.run.training import load_model, save_model

    model = load_model(place)
    dimension = int(model.get_embedding_dimension())
    dimensions = stage.dimensions or (dimension // 2, dimension // 4)
    if not 0 < min(dimensions) <= max(dimensions) < dimension:
        raise InputError(
            f"the stage {stage.name} names lengths that the model's vectors cannot be cut to",
            got=", ".join(map(str, dimensions)),
            expected=f"1 to {dimension - 1}",
        )
    before = trained_recipe(model)
    if before is not None:
        quantize_model(model, before)
    vectors = _vectors(model, recipe, stage, folder)
    if len(vectors) <= stage.neighbours:
        raise InputError(
            f"the data of {stage.name} has too few texts",
            got=str(len(vectors)),
            expected=f"more than {stage.neighbours}, which `neighbours` says",
        )
    with progress_bar(stage.steps, stage.name, unit="step") as advance:
        turn = learn_turn(
            vectors,
            dimensions,
            steps=stage.steps,
            neighbours=stage.neighbours,
            seed=recipe.seed,
            advance=advance,
        )
    sample = vectors[:: max(1, len(vectors) // 1024)]
    lost = {
        f"{count}, {when}": lost_order(sample, vectors, axes[:count], stage.neighbours)
        for count in dimensions
        for when, axes in (("before", torch.eye(dimension)), ("after", turn))
    }
    turn_model(model, turn)
    restore_model(model, forget=True)
    if stage.quantize:
        quantize_model(model, trainable_recipe(stage.quantize))
        restore_model(model)
    save_model(model, target)
    return lost


def learn_turn(
    vectors: Tensor,
    dimensions: Sequence[int],
    *,
    steps: int,
    neighbours: int,
    seed: int,
    advance: Callable[[int], object] = lambda _: None,
) -> Tensor:
    """Returns an orthogonal matrix, one new axis a row: ``vectors @ turn.T`` are the turned vectors.

    It begins with the principal axes. Then `lost_order` between texts and their nearest ones is made small
    by gradient descent, over Cayley's form of a rotation: (1 + A)⁻¹(1 - A), where A is skew-symmetric.

    Args:
        vectors: Of unit length, ``(n, d)``.
        dimensions: Lengths that vectors will be cut to.
        steps: Steps of gradient descent.
        neighbours: The nearest texts of each text that count.
        seed: Of the texts that are drawn.
        advance: Called with 1 after each step.
    """
    generator = torch.Generator().manual_seed(seed)
    start = torch.from_numpy(principal_axes([[vectors.numpy()]]))
    along = vectors @ start.T
    size = along.shape[1]
    identity = torch.eye(size)
    angles = torch.zeros(size, size, requires_grad=True)

    def rotation(angles: Tensor, one: Tensor) -> Tensor:
        skew = (angles - angles.T) / 2
        turned: Tensor = torch.linalg.solve(one + skew, one - skew)
        return turned

    optimizer = torch.optim.Adam([angles], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        drawn = along[torch.randint(len(along), (BATCH,), generator=generator)]
        axes = rotation(angles, identity).T
        loss = torch.stack(
            [_lost_order(drawn, along, axes[:count], neighbours) for count in dimensions]
        ).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        advance(1)
    with torch.no_grad():
        exact = rotation(angles.double(), identity.double()).T @ start.double()
    return exact.float()


def lost_order(texts: Tensor, among: Tensor, axes: Tensor, neighbours: int) -> float:
    """Returns how much of the differences between near texts a few axes lose: 0 for nothing.

    For each text the cosines to its nearest texts are taken once with whole vectors and once along the axes.
    What remains of the difference of both, after each text's own mean, is set against the variance of the
    whole ones: a shift of all cosines of a text changes no order.

    Args:
        texts: Unit vectors ``(n, d)``.
        among: Unit vectors that the nearest are looked for in, these texts included.
        axes: Some axes, one a row.
        neighbours: How many texts count.
    """
    with torch.no_grad():
        return float(_lost_order(texts, among, axes, neighbours))


def _lost_order(texts: Tensor, among: Tensor, axes: Tensor, neighbours: int) -> Tensor:
    with torch.no_grad():
        nearest = (texts @ among.T).topk(neighbours + 1, dim=1).indices[:, 1:]  # without the text itself
        near = among[nearest]
        whole = torch.einsum("nd,nkd->nk", texts, near)
        whole = whole - whole.mean(1, keepdim=True)
    cut = torch.einsum("nd,nkd->nk", normalize(texts @ axes.T, dim=1), normalize(near @ axes.T, dim=2))
    missed = cut - cut.mean(1, keepdim=True) - whole
    return missed.square().sum() / whole.square().sum().clamp_min(1e-12)


def turn_model(model: Any, turn: Tensor) -> None:
    """Turns a model's vectors, in place: in its last Dense module where that is linear, else in a new one.

    Args:
        model: A sentence-transformers model. If it computes with rounded weights, these are turned.
        turn: From `learn_turn`.
    """
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    place = len(model) - isinstance(model[-1], Normalize)
    last = model[place - 1]
    linear_one = isinstance(last, Dense) and isinstance(last.activation_function, nn.Identity)
    if not linear_one or last.use_residual:
        last = dense_module(torch.eye(len(turn)).numpy())
        model.insert(place, last)
    linear: Any = last.linear
    with torch.no_grad():
        weight = linear.weight
        if hasattr(linear, "scheme"):
            weight = rounded_weight(weight, linear.factors, linear.scheme)
        exact = turn.to(weight.device).double()
        linear.weight.copy_((exact @ weight.double()).float())
        if linear.bias is not None:
            linear.bias.copy_((exact @ linear.bias.double()).float())


def dense_module(weight: npt.NDArray[np.float32]) -> Any:
    """Returns a Dense module without bias and activation.

    Args:
        weight: ``(out, in)``.
    """
    from sentence_transformers.sentence_transformer.modules import Dense

    module = Dense(weight.shape[1], weight.shape[0], bias=False, activation_function=nn.Identity())
    with torch.no_grad():
        module.linear.weight.copy_(torch.from_numpy(weight))
    return module


def _vectors(model: Any, recipe: Recipe, stage: RotateStage, folder: RunFolder) -> Tensor:
    """Returns unit vectors of texts of the stage's data, the same number from every column of a table."""
    from edge_embed_train.run.inputs import prompts_of

    tables: list[tuple[str, Table]] = []
    for name in stage.data:
        with progress_bar(None, f"reading {name}", unit="row") as advance:
            tables.append((name, build_table(name, recipe.data[name].source, folder.data, advance)))
        folder.require_same(tables[-1][1])
    share = -(-stage.texts // sum(len(table.columns) for _, table in tables))
    draws = np.random.default_rng(recipe.seed)
    parts: dict[str, dict[str, None]] = {}
    for name, table in tables:
        prompts = prompts_of(recipe.data[name], model.prompts or {}, table)
        for column in table.columns:
            texts = table.texts(column)
            rows = np.sort(draws.choice(len(texts), min(share, len(texts)), replace=False))
            each = parts.setdefault(prompts.get(column, ""), {})
            each.update(dict.fromkeys(texts[int(row)] for row in rows))  # a text counts once
    found = []
    with progress_bar(sum(map(len, parts.values())), f"vectors for {stage.name}", unit="text") as advance:
        for prompt, texts_of in parts.items():
            texts = list(texts_of)
            for first in range(0, len(texts), size := 16 * recipe.teacher_batch_size):
                piece = texts[first : first + size]
                found.append(
                    model.encode(
                        piece,
                        prompt=prompt or None,
                        batch_size=recipe.teacher_batch_size,
                        normalize_embeddings=True,
                        convert_to_tensor=True,
                        show_progress_bar=False,
                    )
                    .float()
                    .cpu()
                )
                advance(len(piece))
    return torch.cat(found)
