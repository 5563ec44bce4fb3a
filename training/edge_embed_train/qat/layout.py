"""What the converter stores of a checkpoint: which weights it quantizes, and what it multiplies them with.

The converter works constants into some weights before it writes them: an attention scale, the divisor of
the residual stream. Rounding sees the product, so training must round the product as well. The factors
are given in the order in which the converter multiplies, because float32 rounds after each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from edge_embed.errors import RecipeError
from edge_embed_convert.families.gemma3.scales import BRANCH_SCALE, RESIDUAL_SCALE
from edge_embed_convert.families.post_norm import READ_FACTOR

TABLE = "embedding"
"""The group of the token table."""


@dataclass(frozen=True)
class Place:
    """One weight that the file holds in the recipe's precision.

    Attributes:
        name: Its module's name within the sentence-transformers model.
        module: The module, `nn.Linear` or `nn.Embedding`.
        group: The recipe's group: embedding, attention, feed_forward or projection.
        factors: What the converter multiplies the weight with, in order.
    """

    name: str
    module: nn.Module
    group: str
    factors: tuple[float, ...] = ()

    def written(self) -> Tensor:
        """Returns the weight as the converter writes it in float32."""
        weight = self.module.weight
        assert isinstance(weight, Tensor)
        return written(weight.detach().float(), self.factors)


def written(weight: Tensor, factors: tuple[float, ...]) -> Tensor:
    """Returns a weight times the converter's factors, rounded to float32 after each."""
    for factor in factors:
        weight = weight * factor
    return weight


def places_of(model: Any) -> list[Place]:
    """Returns every weight of a sentence-transformers model that a recipe applies to.

    Raises:
        RecipeError: If the architecture is none that training can quantize.
    """
    encoder = model[0].model
    kinds = {"gemma3_text": _gemma3, "bert": _bert}
    kind = encoder.config.model_type
    if kind not in kinds:
        raise RecipeError(
            "quantization-aware training does not know this architecture",
            got=f"model_type = {kind!r}",
            expected=" or ".join(map(repr, kinds)),
        )
    names = {id(module): name for name, module in model.named_modules()}
    found = [
        Place(names[id(module)], module, group, factors) for module, group, factors in kinds[kind](encoder)
    ]
    dense = [module.linear for module in model if type(module).__name__ == "Dense"]
    return [*found, *(Place(names[id(layer)], layer, "projection") for layer in dense)]


Entry = tuple[nn.Module, str, tuple[float, ...]]


def _gemma3(encoder: Any) -> Iterator[Entry]:
    config = encoder.config
    yield encoder.embed_tokens, TABLE, (config.hidden_size**0.5 / RESIDUAL_SCALE,)
    branch = (1 / BRANCH_SCALE,)
    for layer in encoder.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            yield projection, "attention", ()
        yield attention.o_proj, "attention", branch
        yield mlp.gate_proj, "feed_forward", ()
        yield mlp.up_proj, "feed_forward", ()
        yield mlp.down_proj, "feed_forward", branch


def _bert(encoder: Any) -> Iterator[Entry]:
    config = encoder.config
    scale = (config.hidden_size // config.num_attention_heads) ** -0.5
    yield encoder.embeddings.word_embeddings, TABLE, ()
    norm = encoder.embeddings.LayerNorm
    for layer in encoder.encoder.layer:
        attention = layer.attention
        factor = _share(norm)
        yield attention.self.query, "attention", (scale, factor)
        yield attention.self.key, "attention", (factor,)
        yield attention.self.value, "attention", (factor,)
        yield attention.output.dense, "attention", ()
        yield layer.intermediate.dense, "feed_forward", (_share(attention.output.LayerNorm),)
        yield layer.output.dense, "feed_forward", ()
        norm = layer.output.LayerNorm


def _share(norm: nn.Module) -> float:
    """Returns what the projections that read a norm are multiplied by: see `SplitNorm.of`.

    Where two norms have equal gains the converter takes another power of two, which rounds alike.
    """
    gain: Any = norm.weight
    return float(gain[0]) if bool((gain == gain[0]).all()) else 1 / READ_FACTOR
