"""Rounding onto the grids of the file: less error than rounding alone, and min-max finds the grid again."""

from __future__ import annotations

import pytest
import torch

from edge_embed_convert.recipes.calibrate.gptq import LARGEST, gptq, grid, min_max, nearest
from edge_embed_convert.recipes.grammar import Scheme

SCHEMES = [Scheme.parse(text) for text in ("8.gptq", "4.gptq", "4b32.gptq")]


@pytest.fixture(scope="module")
def layer() -> tuple[torch.Tensor, torch.Tensor]:
    """Weights with outliers, and correlated inputs with a mean, as the ones of a Transformer are."""
    make = torch.Generator().manual_seed(0)
    weight = torch.randn(48, 96, generator=make) * torch.rand(48, 1, generator=make)
    weight[torch.rand(48, 96, generator=make) < 0.01] *= 6
    mix = torch.randn(96, 96, generator=make) * torch.rand(96, generator=make) ** 2
    return weight, torch.randn(4000, 96, generator=make) @ mix + torch.randn(96, generator=make)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_outputs_err_less_than_by_rounding_alone(layer, scheme: Scheme) -> None:
    weight, inputs = layer
    fitted, fresh = inputs[:3000], inputs[3000:]

    def error(rounded: torch.Tensor) -> float:
        return float((fresh @ (rounded - weight).T).square().mean())

    ours = error(gptq(weight, fitted.T @ fitted, scheme))
    assert ours < 0.7 * error(nearest(weight, scheme))
    assert ours < 0.7 * error(min_max(weight, scheme))


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_min_max_finds_the_grid_again(layer, scheme: Scheme) -> None:
    weight, inputs = layer
    rounded = gptq(weight, inputs.T @ inputs, scheme)
    torch.testing.assert_close(min_max(rounded, scheme), rounded, rtol=1e-6, atol=1e-7)
    steps = rounded.reshape(48, -1, scheme.block or 96)
    levels = steps / (steps.abs().amax(-1, keepdim=True) / LARGEST[scheme.bits])
    assert float((levels - levels.round()).abs().max()) < 1e-2


@pytest.mark.parametrize("scheme", SCHEMES[1:], ids=str)
def test_clipping_errs_less_than_the_largest_weight(layer, scheme: Scheme) -> None:
    weight, _ = layer
    assert (nearest(weight, scheme) - weight).norm() < (min_max(weight, scheme) - weight).norm()
    assert bool((grid(weight, scheme) > 0).all())


def test_what_has_no_inputs_is_rounded_alone(layer) -> None:
    weight, _ = layer
    scheme = SCHEMES[1]
    assert torch.equal(gptq(weight, torch.zeros(96, 96), scheme), nearest(weight, scheme))


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_zeros_and_dead_inputs_stay_finite(layer, scheme: Scheme) -> None:
    weight, inputs = layer
    weight, inputs = weight.clone(), inputs.clone()
    weight[0], inputs[:, 5] = 0, 0
    rounded = gptq(weight, inputs.T @ inputs, scheme)
    assert bool(torch.isfinite(rounded).all())
    assert not bool(rounded[0].any())
