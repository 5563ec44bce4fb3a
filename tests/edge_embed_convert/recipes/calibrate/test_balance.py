"""Balanced inputs: the same vectors in float32, smaller errors once inputs are rounded row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from edge_embed_convert.auto.simulate import Simulation
from edge_embed_convert.pipeline import convert
from edge_embed_convert.recipes.calibrate import balance
from edge_embed_convert.recipes.calibrate.rounding import collect_moments, rounded, rounded_weights
from edge_embed_convert.recipes.grammar import BALANCED_INT8, Recipe, Scheme

CALIBRATED_8 = Recipe.parse(BALANCED_INT8)


def _load(ours, checkpoint, random_ids):
    model = ours.load(checkpoint)
    return model, collect_moments(model, [random_ids(n) for n in (5, 20, 33, 60)])


def test_every_projection_that_reads_a_norm_is_known(ours, bert_checkpoint, gemma_checkpoint) -> None:
    model = ours.load(bert_checkpoint)
    gains = balance.gain_readers(model)
    assert gains["encoder.norm.read"] == tuple(f"encoder.layers.0.{p}" for p in ("query", "key", "value"))
    assert gains["encoder.layers.1.output_norm.read"] == ("encoder.layers.1.up",)
    readers = [path for paths in gains.values() for path in paths]
    assert len(readers) == len(set(readers)) == 2 * 4
    assert all(model.get_parameter(gain).shape == (64,) for gain in gains)
    assert balance.gain_readers(ours.load(gemma_checkpoint)) == {}


def test_splitting_a_norm_rounds_no_weight(ours, bert_checkpoint) -> None:
    """The gain for projections is larger by a power of two, so both stay what the checkpoint says."""
    model = ours.load(bert_checkpoint)
    for gain in balance.gain_readers(model):
        factors = model.get_parameter(gain) / model.get_parameter(gain.removesuffix("read") + "gain")
        assert len(factors.unique()) == 1
        assert math.frexp(float(factors[0]))[0] == 0.5


def test_balancing_is_exact(ours, bert_checkpoint, random_ids) -> None:
    model, moments = _load(ours, bert_checkpoint, random_ids)
    before = ours.run(model, random_ids(40), 64)
    constants = balance.constants(model, moments)
    for gain, readers in balance.gain_readers(model).items():
        assert not torch.allclose(constants[readers[0]], torch.ones(64), atol=0.1)
        model.get_parameter(gain).mul_(constants[readers[0]])
        for path in readers:
            model.get_parameter(f"{path}.weight").div_(constants[path])
    assert np.abs(ours.run(model, random_ids(40), 64) - before).max() < 1e-6


def test_large_channels_shrink(ours, bert_checkpoint, random_ids) -> None:
    model, moments = _load(ours, bert_checkpoint, random_ids)
    path = "encoder.layers.0.up"
    plain = balance.constants(model, moments)[path]
    larger = torch.ones(64)
    larger[3] = 20.0
    louder = balance.constants(model, {**moments, path: moments[path] * larger * larger[:, None]})[path]
    assert louder[3] < 0.3 * plain[3]
    for constants in (plain, louder):
        assert abs(float(constants.log().mean())) < 1e-5


def test_nothing_to_balance_by(ours, bert_checkpoint, random_ids) -> None:
    model, moments = _load(ours, bert_checkpoint, random_ids)
    path = "encoder.layers.0.up"
    assert (balance.constants(model, {path: torch.zeros(64, 64)})[path] == 1).all()
    assert balance.constants(model, {"encoder.layers.0.query": moments["encoder.layers.0.query"]}) == {}


@pytest.mark.parametrize(
    ("recipe", "count"),
    [
        ("e4_a8.gptq_f8.gptq_p8", 4),
        ("e8_a8.gptq_f4.gptq_p8", 2),
        ("e8_a4.gptq_f8_p8", 0),
        ("int8", 0),
        ("e8_a8.gptq_f8.gptq_p8+0.key=8", 3),
        ("e8_a8_f8_p8+1.up=8.gptq", 1),
    ],
)
def test_only_norms_whose_readers_are_all_of_that_scheme(recipe, count, ours, bert_checkpoint) -> None:
    assert len(balance.balanced_gains(ours.load(bert_checkpoint), Recipe.parse(recipe))) == count


def test_gains_are_replaced_with_weights(ours, bert_checkpoint, random_ids) -> None:
    model, moments = _load(ours, bert_checkpoint, random_ids)
    found = dict(rounded_weights(model, CALIBRATED_8, moments))
    constants = balance.constants(model, moments)
    for gain, readers in balance.gain_readers(model).items():
        torch.testing.assert_close(found[gain], model.get_parameter(gain) * constants[readers[0]])
    path = "encoder.layers.0.up"
    weight = found[f"{path}.weight"] * constants[path]
    torch.testing.assert_close(weight, model.get_parameter(f"{path}.weight").data, atol=0.02, rtol=0)


def test_a_row_of_unlike_channels_is_rounded_better(ours, bert_checkpoint, random_ids) -> None:
    """One channel thirty times as large, as in trained models, and weights that hardly read it."""
    model, _ = _load(ours, bert_checkpoint, random_ids)
    model.get_parameter("encoder.layers.0.output_norm.read")[7] *= 30
    model.get_parameter("encoder.layers.0.up.weight")[:, 7] /= 30
    moments = collect_moments(model, [random_ids(n) for n in (5, 20, 33, 60)])
    linear = model.get_submodule("encoder.layers.0.up")
    inputs: list[torch.Tensor] = []
    handle = linear.register_forward_pre_hook(lambda _, fed: inputs.append(fed[0]))
    ours.run(model, random_ids(50), 64)
    handle.remove()
    exact = linear(inputs[0])

    def error(spelled: str) -> float:
        simulation = Simulation(model, moments, [])
        with simulation._holding({"encoder.layers.0.up": Scheme.parse(spelled)}), torch.inference_mode():
            return float((linear(inputs[0]) - exact).square().mean())

    assert error("8.gptq") < 0.2 * error("8")


def test_rounding_undoes_what_inputs_get(ours, bert_checkpoint, random_ids) -> None:
    model, moments = _load(ours, bert_checkpoint, random_ids)
    path = "encoder.layers.1.query"
    constants = torch.linspace(0.5, 2.0, 64)
    weight = model.get_parameter(f"{path}.weight").data
    scheme = Scheme.parse("8.gptq")
    back = rounded(weight, moments[path], scheme, constants) * constants
    assert float((back - weight).abs().max()) < 2 * float((weight / constants).abs().max()) / 127 * 2


@pytest.mark.parametrize("uniform", [True, False], ids=["one number", "equal vectors"])
def test_gains_that_are_alike(uniform, write_tiny_bert, rewrite_tensors, tmp_path) -> None:
    """Each is found in the graph all the same, by its content, or left as it is where it has none."""
    checkpoint = write_tiny_bert(tmp_path / "young")
    gain = torch.full((64,), 0.7) if uniform else torch.linspace(0.5, 1.5, 64)
    rewrite_tensors(checkpoint, lambda t: [v.copy_(gain) for n, v in t.items() if "LayerNorm.weight" in n])
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(f"text number {i} of a few" for i in range(24)), "utf-8")
    made = convert(checkpoint, tmp_path, recipe="int8", calibration=texts, buckets=[16, 64], num_threads=1)
    assert made.manifest.recipe.spec == BALANCED_INT8
    assert made.manifest.parity.cosine_mean > 0.998
    assert made.manifest.tools["calibration texts"].startswith("texts.txt")
