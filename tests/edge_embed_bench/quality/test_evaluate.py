"""Evaluating models side by side: what is compared with what, and under which prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pytrec_eval")
pytest.importorskip("sklearn")

from edge_embed import Embedder
from edge_embed.errors import CheckpointError, InputError, ModelFileError
from edge_embed_bench.quality import metrics
from edge_embed_bench.quality.data import Similarity
from edge_embed_bench.quality.evaluate import evaluate
from edge_embed_bench.quality.models import DOCUMENT, QUERY, STS, Candidate, Embeddings, Facts, label_all


def run(models: Sequence[Path], data: Sequence[Path], **options: Any) -> Any:
    return evaluate([str(model) for model in models], data, resamples=20, num_threads=1, **options)


def test_a_copy_loses_nothing(tiny_model: Path, copy_model: Path, sets: Any) -> None:
    report = run([copy_model, tiny_model], sets.all)
    assert report.baseline == "tiny.fp32.tflite"
    assert [facts.label for facts in report.models] == ["tiny.fp32.tflite", "tiny.int8.tflite"]
    assert report.data == {
        "pairs": "similarity",
        "xxx-eng": "bitext",
        "questions": "retrieval",
        "labels": "classification",
    }
    assert len(report.scores) == 8
    for score in report.scores:
        assert (score.loss, score.loss_low, score.loss_high) == (0, 0, 0)
        assert score.agreement == 1
        assert score.cosine_min == pytest.approx(1)
        assert score.metric == metrics.MAIN[score.kind]
        assert score.value == score.metrics[score.metric]
        assert score.low <= score.high
    assert not report.notes


def test_another_model_is_told_apart(tiny_model: Path, other_model: Path, sets: Any) -> None:
    report = run([other_model], sets.all, source=str(tiny_model))
    theirs = [score for score in report.scores if score.model == "other.int8.tflite"]
    source = {score.data: score for score in report.scores if score.model == "tiny.fp32.tflite"}
    for score in theirs:
        assert score.loss == pytest.approx(source[score.data].value - score.value)
        assert score.cosine_mean < 0.999
    assert min(score.agreement for score in theirs) < 1
    assert "other weights" in report.notes[0]


def test_scores_are_those_of_the_embedder(tiny_model: Path, sets: Any) -> None:
    report = run([tiny_model], [sets.similarity])
    rows = [line.split("\t") for line in sets.similarity.read_text().splitlines()[1:]]
    with Embedder(tiny_model) as model:
        left, right = (model.encode([row[i] for row in rows]) for i in (0, 1))
    data = Similarity("pairs", [""] * len(rows), [""] * len(rows), [float(row[2]) for row in rows])
    assert report.scores[0].metrics == metrics.score_similarity(data, left, right, 20).values


def test_cut_vectors_are_compared_with_whole_ones(tiny_model: Path, sets: Any) -> None:
    report = run([tiny_model], [sets.retrieval], dims=[8, 2])
    whole, cut = report.scores
    assert (whole.dimension, cut.dimension) == (8, 2)
    assert cut.loss == pytest.approx(whole.value - cut.value)
    assert cut.agreement < whole.agreement == 1
    assert cut.cosine_mean is None


def test_without_a_source_nothing_is_compared(copy_model: Path, sets: Any) -> None:
    report = run([copy_model], [sets.similarity])
    assert report.baseline is None
    assert report.scores[0].loss is report.scores[0].agreement is None
    assert "--source" in report.notes[0]


def test_a_checkpoint_is_the_better_source(checkpoint: Path, tiny_model: Path, sets: Any) -> None:
    report = run([tiny_model, checkpoint], [sets.similarity])
    assert report.baseline == "tiny-bert"
    source = report.models[0]
    assert (source.recipe, source.dimension) == ("source", 8)
    assert source.bytes == (checkpoint / "model.safetensors").stat().st_size
    assert "other weights" in report.notes[0]


def test_runs_repeat(tiny_model: Path, other_model: Path, sets: Any) -> None:
    def scores() -> list[dict[str, Any]]:
        report = run([tiny_model, other_model], sets.all)
        return [asdict(replace(score, ms_per_text=None)) for score in report.scores]

    assert scores() == scores()


def test_progress_reaches_its_end(tiny_model: Path, copy_model: Path, sets: Any) -> None:
    seen: list[tuple[str, int, int]] = []
    run([tiny_model, copy_model], sets.all, progress=lambda *step: seen.append(step))
    assert [done for _, done, _ in seen] == list(range(10))
    assert {total for *_, total in seen} == {10}
    assert "tiny.int8.tflite on labels" in {step for step, *_ in seen}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"dims": [8, 9]}, InputError, "9"),
        ({"dims": [0]}, InputError, "0"),
        ({"source": "copy"}, InputError, "float32"),
        ({"models": []}, InputError, "no model"),
        ({"models": ["tiny", "tiny"]}, InputError, "twice"),
        ({"models": ["missing.tflite"]}, ModelFileError, "missing.tflite"),
        ({"models": ["no-such-directory"]}, CheckpointError, "no-such-directory"),
        ({"data": []}, InputError, "no data"),
        ({"data": ["nowhere.tsv"]}, InputError, "nowhere.tsv"),
    ],
)
def test_what_is_wrong_is_found_before_work_begins(
    change: dict[str, Any],
    error: type[Exception],
    words: str,
    tiny_model: Path,
    copy_model: Path,
    sets: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Candidate, "open", lambda self: pytest.fail("a model was loaded"))
    known = {"tiny": str(tiny_model), "copy": str(copy_model)}
    options = {"models": ["tiny"], "data": [sets.similarity], **change}
    models = [known.get(name, name) for name in options.pop("models")]
    if "source" in options:
        options["source"] = known[options["source"]]
    with pytest.raises(error, match=words):
        evaluate(models, options.pop("data"), **options)


class Recorder:
    """A model that remembers what it was given."""

    def __init__(self, prompts: dict[str, str], default: str | None = None) -> None:
        self.facts = Facts("recorder", "fp32", 1, 2, "cosine", prompts, default, "0")
        self.texts: list[str] = []

    def encode(self, texts: Sequence[str]) -> Any:
        self.texts += texts
        return np.array([[len(text), 1] for text in texts], np.float32)

    def close(self) -> None:
        pass


def test_prompts_go_by_role() -> None:
    model = Recorder({"query": "Q: ", "document": "title: none | ", "STS": "S: "})
    embed = Embeddings(model)
    embed(["x"], QUERY)
    embed(["x", "y"], DOCUMENT, ["", "T"])
    embed(["x"], STS)
    assert model.texts == ["Q: x", "title: none | x", "title: T | y", "S: x"]


def test_titles_go_before_the_text_without_a_place_for_them() -> None:
    model = Recorder({})
    Embeddings(model)(["x", "y"], DOCUMENT, ["", "T"])
    assert model.texts == ["x", "T y"]


def test_the_default_prompt_is_for_what_has_none() -> None:
    model = Recorder({"query": "Q: ", "all": "A: "}, default="all")
    embed = Embeddings(model)
    embed(["x"], QUERY)
    embed(["x"], STS)
    assert model.texts == ["Q: x", "A: x"]


def test_each_text_is_embedded_once() -> None:
    model = Recorder({})
    embed = Embeddings(model)
    first = embed(["a", "bb", "a"], STS)
    assert first[:, 0].tolist() == [1, 2, 1]
    assert embed(["bb", "ccc"], STS)[:, 0].tolist() == [2, 3]
    assert model.texts == ["a", "bb", "ccc"]
    assert embed.texts == 3
    assert embed.seconds > 0


def test_labels() -> None:
    assert label_all(["x/a.tflite", "y/b.tflite", "owner/name"]) == ["a.tflite", "b.tflite", "name"]
    assert label_all(["x/a.tflite", "y/a.tflite"]) == ["x/a.tflite", "y/a.tflite"]
