"""Make a sentence-transformers model compute with quantized weights and inputs, and plain again.

Modules change their class and nothing else: names, parameters and what `save_pretrained` writes stay as
they are, so that a checkpoint taken in the middle is an ordinary one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import embedding, linear

from edge_embed.errors import RecipeError
from edge_embed_convert.recipes.calibrate.gptq import grid
from edge_embed_convert.recipes.grammar import MIN_MAX, RECIPES, Recipe, Scheme
from edge_embed_convert.source.checkpoint import TRAINED_RECIPE
from edge_embed_train.qat.grids import rounded_rows, stored, straight_through
from edge_embed_train.qat.layout import TABLE, Place, places_of, written


def trainable_recipe(text: str) -> Recipe:
    """Returns a recipe that training can follow.

    Raises:
        RecipeError: If it is unknown, fitted to texts, or differs between layers.
    """
    recipe = Recipe.parse(text)
    clipped = {str(scheme) for scheme in recipe.schemes if scheme.algorithm != MIN_MAX}
    if clipped or recipe.overrides:
        raise RecipeError(
            "quantization-aware training cannot follow this recipe",
            got=text,
            expected=f"one of {', '.join(RECIPES)}, or a spelling with one plain scheme per group",
            fix="training moves the weights, so only rounding by the largest weight of each row makes sense",
        )
    return recipe


def quantize_model(model: Any, recipe: Recipe) -> None:
    """Makes a model compute as its file will, in place, and notes the recipe in its configuration.

    Args:
        model: A sentence-transformers model.
        recipe: From `trainable_recipe`.

    Raises:
        RecipeError: If the architecture is unknown, or blocks do not divide a weight's rows.
    """
    places = places_of(model)
    for place in places:
        scheme: Scheme = getattr(recipe, place.group)
        columns = place.written().shape[1]
        if scheme.block and columns % scheme.block:
            raise RecipeError(
                f"the scheme {scheme} does not fit {place.name}",
                got=f"rows of {columns} weights",
                expected=f"a multiple of {scheme.block}",
            )
    for place in places:
        _give(place, getattr(recipe, place.group))
    model[0].model.config.update({TRAINED_RECIPE: recipe.name})


def clip_model(model: Any, recipe: Recipe) -> None:
    """Clips the rows that a recipe stores in 2 bits, in place, to the range whose rounding errs least.

    A row has three values then. With its largest weight as one of them most others round to 0, and a model
    whose weights are 0 cannot be trained. A model that was trained for this recipe is left as it is.

    Args:
        model: A sentence-transformers model that is not quantized.
        recipe: From `trainable_recipe`.
    """
    before = trained_recipe(model)
    if before is not None and before.spec == recipe.spec:
        return
    for weight, _, scheme in _in_two_bits(model, recipe):
        limit = grid(weight.detach().float(), scheme)[:, 0].to(weight.dtype)
        weight.data.clamp_(-limit, limit)


def round_model(model: Any) -> bool:
    """Gives the weights that a model was trained to have in 2 bits their rounded values, in place.

    With more bits the exact weights compute nearly the same. With 2 bits they are another model than the one
    that was trained, and the converter compares a file with the weights of its checkpoint.

    Args:
        model: A sentence-transformers model that is not quantized; its configuration names the recipe that
            it was trained for.

    Returns:
        Whether it has such weights.
    """
    recipe = trained_recipe(model)
    found = [] if recipe is None else list(_in_two_bits(model, recipe))
    for weight, place, scheme in found:
        weight.data.copy_(rounded_weight(weight.detach(), place.factors, scheme))
    return bool(found)


def trained_recipe(model: Any) -> Recipe | None:
    """Returns the recipe that a model was trained for, by its configuration; None for none."""
    name = getattr(model[0].model.config, TRAINED_RECIPE, None)
    return trainable_recipe(name) if name else None


def _in_two_bits(model: Any, recipe: Recipe) -> Iterator[tuple[nn.Parameter, Place, Scheme]]:
    """Yields the weights that a recipe stores in 2 bits."""
    for place in places_of(model):
        scheme: Scheme = getattr(recipe, place.group)
        if scheme.bits == 2:
            weight = place.module.weight
            assert isinstance(weight, nn.Parameter)
            yield weight, place, scheme


def restore_model(model: Any, *, forget: bool = False) -> None:
    """Makes a model compute with its exact weights again, in place.

    Args:
        model: A sentence-transformers model, quantized or not.
        forget: Also takes the recipe out of its configuration. Training without quantization moves the
            weights off the grid that they were trained for.
    """
    for module in model.modules():
        if isinstance(module, QuantizedLinear | QuantizedEmbedding):
            _make_plain(module)
    config = model[0].model.config
    if forget and getattr(config, TRAINED_RECIPE, None) is not None:
        delattr(config, TRAINED_RECIPE)


def quantized_weights(model: Any, recipe: Recipe) -> dict[str, Tensor]:
    """Returns every weight as the converted file holds it, dequantized, by its module's name."""
    return {place.name: stored(place.written(), getattr(recipe, place.group)) for place in places_of(model)}


class QuantizedLinear(nn.Linear):
    """A projection that computes with rounded weights and rounded inputs."""

    plain_class: type[nn.Linear]
    factors: tuple[float, ...]
    scheme: Scheme

    def forward(self, x: Tensor) -> Tensor:
        """Applies it to ``(..., in)``."""
        if self.scheme.integer:
            exact = x.float()
            x = straight_through(exact, rounded_rows(exact.detach())).to(x.dtype)
        return linear(x, rounded_weight(self.weight, self.factors, self.scheme), self.bias)


class QuantizedEmbedding(nn.Embedding):
    """A token table that gives rounded rows."""

    plain_class: type[nn.Embedding]
    factors: tuple[float, ...]
    scheme: Scheme

    def forward(self, ids: Tensor) -> Tensor:
        """Looks ids up; a scaled table, such as Gemma's, scales as ever."""
        if ids.numel() < self.num_embeddings:  # each row has its own scale, so fewer rows may be rounded
            rows = embedding(ids, self.weight, self.padding_idx)
            flat = rounded_weight(rows.reshape(-1, rows.shape[-1]), self.factors, self.scheme)
            vectors = flat.reshape(rows.shape)
        else:
            table = rounded_weight(self.weight, self.factors, self.scheme)
            vectors = embedding(ids, table, self.padding_idx)
        scale = getattr(self, "embed_scale", None)
        return vectors if scale is None else vectors * scale.to(vectors.dtype)


def rounded_weight(weight: Tensor, factors: tuple[float, ...], scheme: Scheme) -> Tensor:
    """Returns a weight as the file holds it, in the checkpoint's units; gradients go to the exact one."""
    rounded = stored(written(weight.detach().float(), factors), scheme)
    for factor in reversed(factors):
        rounded = rounded / factor
    return straight_through(weight, rounded.to(weight.dtype))


def _make_plain(module: Any) -> None:
    module.__class__ = module.plain_class


def _give(place: Place, scheme: Scheme) -> None:
    """Changes the class of a place's module."""
    module: Any = place.module
    if isinstance(module, QuantizedLinear | QuantizedEmbedding):
        _make_plain(module)
    plain = type(module)
    kind = QuantizedEmbedding if place.group == TABLE else QuantizedLinear
    module.plain_class, module.factors, module.scheme = plain, place.factors, scheme
    # A subclass of the module's own class, whose other methods stay.
    module.__class__ = kind if plain in (nn.Linear, nn.Embedding) else type(plain.__name__, (kind, plain), {})
