"""Scores on development sets; tests/edge_embed_train/run and test_merge use them in whole runs."""

from __future__ import annotations

import typing

from edge_embed_train.evaluate.score import SCORERS
from edge_embed_train.evaluate.sets import DevSet


def test_every_kind_of_development_set_is_scored() -> None:
    assert set(SCORERS) == set(typing.get_args(DevSet))
