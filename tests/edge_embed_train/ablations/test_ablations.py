"""Ablations, very small: every arm is trained and measured, and differences have intervals."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from edge_embed.errors import InputError
from edge_embed_train.ablations.arms import ABLATIONS
from edge_embed_train.ablations.run import Settings, run_ablation, to_markdown

from ..words import WORDS


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, write_tiny: Any) -> Settings:
    directory = tmp_path_factory.mktemp("ablations")
    draw = random.Random(0)
    for name in ("train", "more", "valid"):
        rows = []
        for _ in range(40):
            words = draw.sample(WORDS, 5)
            rows.append({"kind": "pair", "anchor": " ".join(words[:3]), "positive": " ".join(words[1:])})
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [f"{' '.join(draw.sample(WORDS, 3))}\t{' '.join(draw.sample(WORDS, 3))}\t{i}" for i in range(9)]
    (directory / "sts.tsv").write_text("sentence1\tsentence2\tscore\n" + "\n".join(lines) + "\n")
    teacher = write_tiny(directory / "teacher", "bert", seed=2, hidden_size=128)
    files = {name: directory / f"{name}.jsonl" for name in ("train", "more", "valid")}
    return Settings(**files, sts=directory / "sts.tsv", teacher=teacher, rows=40, steps=3, batch=8)


@pytest.mark.parametrize("name", ["soup", "qat-int4", "pooling"])
def test_an_ablation_measures_every_arm_with_every_seed(
    name: str, settings: Settings, tmp_path: Path
) -> None:
    said: list[str] = []
    result = run_ablation(name, settings, (1, 2), tmp_path, said.append)
    arms = [arm.name for arm in ABLATIONS[name].arms]
    labels = ["soup", "member-1", "member-2", "member-3"] if name == "soup" else arms
    assert list(result["results"]) == labels
    assert len(said) == 2 * len(labels)
    for seeds in result["results"].values():
        assert len(seeds) == 2
        assert all(0 <= seed["retrieval"] <= 1 for seed in seeds)
    for differences in result["differences"].values():
        for mean, low, high in differences.values():
            assert low <= mean <= high
    assert f"### {ABLATIONS[name].question}" in to_markdown(result)
    again: list[str] = []
    assert run_ablation(name, settings, (1, 2), tmp_path, again.append)["results"] == result["results"]


def test_what_cannot_be_compared_is_refused(settings: Settings, tmp_path: Path) -> None:
    for name, seeds in (("no such one", (1, 2)), ("soup", (1,))):
        with pytest.raises(InputError, match="this ablation cannot be run"):
            run_ablation(name, settings, seeds, tmp_path)
