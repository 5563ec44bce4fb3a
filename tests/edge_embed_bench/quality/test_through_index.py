"""Retrieval sets through an index, beside exact search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_embed.errors import InputError
from edge_embed_bench.quality.through_index import WAYS, WHOLE, evaluate_through_index, to_json, to_markdown


def test_every_way_is_scored_and_documents_in_one_chunk_score_as_whole_ones(
    tiny_model: Path, sets: Any
) -> None:
    report = evaluate_through_index([str(tiny_model)], [sets.retrieval], resamples=20)
    assert [way.way for way in report.ways] == [WHOLE, *WAYS]
    scores = {way.way: way.value for way in report.ways}
    assert all(0 <= score <= 1 for score in scores.values())
    assert scores["index, exact float"] == pytest.approx(scores[WHOLE])
    assert report.indexes[0].documents == report.indexes[0].chunks
    assert json.loads(to_json(report))["ways"][0]["way"] == WHOLE
    assert f"| {WHOLE} | {100 * scores[WHOLE]:.2f} |" in to_markdown(report)


def test_only_retrieval_sets_are_taken(tiny_model: Path, sets: Any) -> None:
    with pytest.raises(InputError, match="not a retrieval set"):
        evaluate_through_index([str(tiny_model)], [sets.similarity])
