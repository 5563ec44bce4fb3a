"""Turned vectors: whole cosines stay, cut ones come closer to them, and the file holds what was turned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense
from torch.nn.functional import normalize

from edge_embed.errors import InputError
from edge_embed_convert.source.checkpoint import load
from edge_embed_train.qat import quantize_model, trainable_recipe
from edge_embed_train.rotate import dense_module, learn_turn, lost_order, turn_model
from edge_embed_train.run import train

from .words import WORDS

RECIPE = """
name = "turned"
model = "{model}"
[data.texts]
path = "texts.jsonl"
[[stage]]
kind = "qat"
data = ["texts"]
steps = 2
batch_size = 8
quantize = "int4"
[[stage]]
kind = "rotate"
data = ["texts"]
steps = 60
neighbours = 5
dimensions = {dimensions}
quantize = "e4_a4_f4_p8"
"""


def plain_loss(texts: Any, among: Any, axes: Any, neighbours: int) -> float:
    """`lost_order` as its docstring says it, in loops."""
    missed = whole = 0.0
    for text in texts:
        cosines = [float(text @ other) for other in among]
        nearest = sorted(range(len(among)), key=lambda i: -cosines[i])[1 : neighbours + 1]
        full, cut = [], []
        for i in nearest:
            one, other = axes @ text, axes @ among[i]
            full.append(cosines[i])
            cut.append(float(one @ other / np.linalg.norm(one) / np.linalg.norm(other)))
        for a, b in zip(full, cut, strict=True):
            missed += ((b - np.mean(cut)) - (a - np.mean(full))) ** 2
            whole += (a - np.mean(full)) ** 2
    return float(missed / whole)


def test_the_loss_is_the_formula() -> None:
    draws = np.random.default_rng(0)
    among = draws.standard_normal((20, 6))
    among /= np.linalg.norm(among, axis=1, keepdims=True)
    axes = ortho_group.rvs(6, random_state=1)[:3]
    given = [torch.tensor(each, dtype=torch.float64) for each in (among[:7], among, axes)]
    assert lost_order(*given, 4) == pytest.approx(plain_loss(among[:7], among, axes, 4), rel=1e-9)
    assert lost_order(given[0], given[1], torch.eye(6, dtype=torch.float64), 4) == pytest.approx(0, abs=1e-20)


def test_hidden_axes_are_found() -> None:
    """What tells near texts apart lies along 4 of 16 axes, where most of the length is not."""
    draws = np.random.default_rng(2)
    offset = np.zeros(16)
    offset[4:12] = 3
    vectors = offset + draws.standard_normal((400, 16)) * np.where(np.arange(16) < 4, 1.0, 0.05)
    hidden = ortho_group.rvs(16, random_state=3)
    unit = normalize(torch.tensor(vectors @ hidden, dtype=torch.float32), dim=1)
    done: list[int] = []
    turn = learn_turn(unit, (5,), steps=200, neighbours=16, seed=1, advance=done.append)
    assert sum(done) == 200
    torch.testing.assert_close(turn @ turn.T, torch.eye(16), atol=1e-5, rtol=0)
    before, after = (lost_order(unit, unit, axes[:5], 16) for axes in (torch.eye(16), turn))
    assert after < 0.02 < before
    again = learn_turn(unit, (5,), steps=200, neighbours=16, seed=1)
    assert torch.equal(turn, again)


@pytest.mark.parametrize("kind", ["a linear Dense module", "one with a bias", "another activation", "none"])
def test_only_the_axes_of_a_model_change(tiny_bert: Path, kind: str) -> None:
    model = SentenceTransformer(str(tiny_bert), device="cpu")
    place = len(model) - 1
    torch.manual_seed(0)
    if kind == "another activation":
        model.insert(place, Dense(32, 32, bias=False))  # Tanh
    elif kind != "none":
        model.insert(
            place, Dense(32, 32, bias=kind == "one with a bias", activation_function=torch.nn.Identity())
        )
    modules = len(model)
    turn = torch.tensor(ortho_group.rvs(32, random_state=4), dtype=torch.float32)
    before = model.encode(WORDS, convert_to_tensor=True)
    turn_model(model, turn)
    assert len(model) == modules + (kind in ("another activation", "none"))
    after = model.encode(WORDS, convert_to_tensor=True)
    torch.testing.assert_close(after, before @ turn.T, atol=2e-6, rtol=0)


def test_rounded_weights_are_turned(tiny_bert: Path) -> None:
    model = SentenceTransformer(str(tiny_bert), device="cpu")
    torch.manual_seed(0)
    model.insert(len(model) - 1, dense_module(torch.randn(32, 32).numpy()))
    quantize_model(model, trainable_recipe("int4"))
    turn = torch.tensor(ortho_group.rvs(32, random_state=5), dtype=torch.float32)
    before = model.encode(WORDS, convert_to_tensor=True)
    turn_model(model, turn)
    quantize_model(model, trainable_recipe("e4_a4_f4_p8"))
    after = model.encode(WORDS, convert_to_tensor=True)
    cosines = (after * (before @ turn.T)).sum(1)
    assert cosines.min() > 0.9999  # 8 bits of weights that had 4


def run(tmp_path: Path, model: Path, dimensions: str = "[]") -> Path:
    texts = [f"{a} {b} {c}" for a in WORDS[:6] for b in WORDS[6:12] for c in WORDS[12:16]]
    (tmp_path / "texts.jsonl").write_text(
        "".join(json.dumps({"query": text, "positive": text + " the"}) + "\n" for text in texts)
    )
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(model=model, dimensions=dimensions))
    return train(recipe, tmp_path / "run").model


def test_the_last_stage_turns_what_was_trained(tiny_gemma: Path, tmp_path: Path) -> None:
    result = run(tmp_path, tiny_gemma)
    assert load(result).trained_recipe == "e4_a4_f4_p8"
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    [lost] = [record["lost_order"] for record in records if record["stage"] == "rotate"]
    assert set(lost) == {"16, before", "16, after", "8, before", "8, after"}
    assert lost["16, after"] < lost["16, before"]
    assert lost["8, after"] < lost["8, before"]
    assert "| rotate | rotate |" in (result / "README.md").read_text()


def test_a_length_that_vectors_cannot_be_cut_to(tiny_gemma: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be cut to"):
        run(tmp_path, tiny_gemma, "[64]")
    assert not (tmp_path / "run" / "model").exists()
