"""Scores on development sets; tests/edge_embed_train/run and test_merge use them in whole runs."""

from __future__ import annotations

import typing
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer

from edge_embed_train.evaluate.score import SCORERS, score
from edge_embed_train.evaluate.sets import DevSet, Pairs


def test_every_kind_of_development_set_is_scored() -> None:
    assert set(SCORERS) == set(typing.get_args(DevSet))


@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_a_model_whose_vectors_are_all_equal_scores_0(tiny_gemma: Path) -> None:
    model = SentenceTransformer(str(tiny_gemma), device="cpu")
    with torch.no_grad():
        for parameter in model[-2].parameters():
            parameter.zero_()
    pairs = Pairs("pairs", ["red", "old", "green"], ["planet", "house", "tree"], [1.0, 2.0, 3.0])
    assert score(model, [pairs]) == {"pairs": 0.0}
