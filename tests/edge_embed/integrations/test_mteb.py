"""The adapter against the real mteb, on tasks whose data are made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mteb")

from edge_embed import Embedder
from edge_embed.errors import InputError
from edge_embed.integrations.mteb import EdgeEmbedModel

PROMPTS = {
    "query": "query: ",
    "document": "title: none | text: ",
    "STS": "task: sentence | query: ",
    "Retrieval-query": "task: search | query: ",
}
TEXTS = ["red planet mars", "water and stone", "seven small birds", "green hills at night", "old river song"]


def metadata(name: str, kind: str, score: str) -> Any:
    from mteb.abstasks.task_metadata import TaskMetadata

    return TaskMetadata(
        name=name,
        description="Sentences of a test.",
        reference=None,
        type=kind,
        category="t2t",
        dataset={"path": "tests/none", "revision": "1"},
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=score,
        date=("2026-01-01", "2026-01-01"),
        domains=["Written"],
        task_subtypes=[],
        license="apache-2.0",
        annotations_creators="derived",
        dialect=[],
        sample_creation="created",
        bibtex_citation="",
    )


@pytest.fixture
def sts() -> Any:
    from datasets import Dataset, DatasetDict
    from mteb.abstasks.sts import AbsTaskSTS

    class LocalSTS(AbsTaskSTS):
        metadata = metadata("LocalSTS", "STS", "cosine_spearman")

        def load_data(self, *args: Any, **kwargs: Any) -> None:
            rows = {
                "sentence1": TEXTS,
                "sentence2": TEXTS[1:] + TEXTS[:1],
                "score": [0.0, 1.0, 2.0, 3.0, 4.0],
            }
            self.dataset = DatasetDict({"test": Dataset.from_dict(rows)})
            self.data_loaded = True

    return LocalSTS()


@pytest.fixture
def retrieval() -> Any:
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    class LocalRetrieval(AbsTaskRetrieval):
        metadata = metadata("LocalRetrieval", "Retrieval", "ndcg_at_10")

        def load_data(self, *args: Any, **kwargs: Any) -> None:
            ids = [f"d{i}" for i in range(len(TEXTS))]
            corpus = Dataset.from_dict({"id": ids, "title": ["the"] * len(TEXTS), "text": TEXTS})
            queries = Dataset.from_dict({"id": ["q0", "q1"], "text": ["mars", "birds"]})
            qrels = {"q0": {"d0": 1}, "q1": {"d2": 1}}
            split = {"corpus": corpus, "queries": queries, "relevant_docs": qrels, "top_ranked": None}
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return LocalRetrieval()


@pytest.fixture(scope="module")
def path(build_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("mteb") / "prompts.tflite", prompts=PROMPTS)


def evaluate(model: Any, task: Any) -> float:
    import mteb

    result = mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False)
    return float(result.task_results[0].get_score())


def spy(model: EdgeEmbedModel, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | None, list[str]]]:
    calls: list[tuple[str | None, list[str]]] = []
    real = model.embedder.encode

    def encode(texts: Any, *, prompt_name: str | None, **options: Any) -> Any:
        calls.append((prompt_name, list(texts)))
        return real(texts, prompt_name=prompt_name, **options)

    monkeypatch.setattr(model.embedder, "encode", encode)
    return calls


def test_mteb_takes_it_for_an_encoder(path: Path) -> None:
    from mteb.models import EncoderProtocol

    model = EdgeEmbedModel(path)
    assert isinstance(model, EncoderProtocol)
    meta = model.mteb_model_meta
    assert meta.name == "edge-embed/tiny.fp32"
    assert meta.revision == model.embedder.manifest.graph.sha256
    assert (meta.embed_dim, meta.max_tokens, meta.adapted_from) == (8, 32, "tests/tiny")
    assert meta.use_instructions


def test_sts(path: Path, sts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.stats import spearmanr

    model = EdgeEmbedModel(path)
    calls = spy(model, monkeypatch)
    score = evaluate(model, sts)
    assert {name for name, _ in calls} == {"STS"}
    with Embedder(path) as plain:
        left = plain.encode(TEXTS, prompt_name="STS")
        right = plain.encode(TEXTS[1:] + TEXTS[:1], prompt_name="STS")
    expected = spearmanr((left * right).sum(1), range(5)).statistic
    assert score == pytest.approx(expected, abs=1e-6)


def test_retrieval(path: Path, retrieval: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = EdgeEmbedModel(path)
    calls = spy(model, monkeypatch)
    assert 0 <= evaluate(model, retrieval) <= 1
    asked = dict(calls)
    assert asked["Retrieval-query"] == ["mars", "birds"]
    # A document is its title and its text, as MTEB joins them.
    assert sorted(asked["document"]) == sorted(f"the {text}" for text in TEXTS)


def test_names_that_mteb_does_not_know(
    build_model: Callable[..., Path], tmp_path: Path, retrieval: Any
) -> None:
    from mteb.types import PromptType

    path = build_model(tmp_path / "e5.tflite", prompts={"query": "query: ", "passage": "passage: "})
    model = EdgeEmbedModel(path)
    assert model.prompt_name(retrieval.metadata, PromptType.query) == "query"
    assert model.prompt_name(retrieval.metadata, PromptType.document) == "passage"
    assert model.prompt_name(retrieval.metadata) is None


def test_mtebs_cache(path: Path, sts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mteb.models import CachedEmbeddingWrapper

    model = EdgeEmbedModel(path)
    calls = spy(model, monkeypatch)
    first = evaluate(CachedEmbeddingWrapper(model, tmp_path / "cache"), sts)
    embedded = len(calls)
    assert embedded
    assert evaluate(CachedEmbeddingWrapper(model, tmp_path / "cache"), sts) == first
    assert len(calls) == embedded


def test_results_of_different_settings_stay_apart(path: Path, sts: Any, tmp_path: Path) -> None:
    import mteb
    from mteb.cache import ResultCache

    cache = ResultCache(tmp_path)
    whole, cut = EdgeEmbedModel(path), EdgeEmbedModel(path, truncate_dim=2)
    assert (whole.mteb_model_meta.experiment_kwargs, cut.mteb_model_meta.embed_dim) == (None, 2)
    assert cut.mteb_model_meta.experiment_kwargs == {"truncate_dim": 2}
    for model in (whole, cut, whole):
        mteb.evaluate(model, sts, cache=cache, show_progress_bar=False, co2_tracker=False)
    assert len(list(tmp_path.rglob("LocalSTS.json"))) == 2


def test_options_that_it_does_not_have(path: Path, sts: Any) -> None:
    with pytest.raises(InputError, match="CPU"):
        EdgeEmbedModel(path, device="cuda")
    model = EdgeEmbedModel(path)
    place = {"task_metadata": sts.metadata, "hf_split": "test", "hf_subset": "default"}
    assert model.encode([{"text": ["a"]}, {"text": ["b", "c"]}], **place).shape == (3, 8)
    with pytest.raises(InputError, match="int8"):
        model.encode([{"text": ["a"]}], **place, precision="int8")
    with pytest.raises(InputError, match="magic"):
        model.encode([{"text": ["a"]}], **place, magic=True)
    with pytest.raises(InputError, match="image"):
        model.encode([{"image": [None]}], **place)


def test_similarities(path: Path) -> None:
    model = EdgeEmbedModel(path)
    a, b = np.eye(2, dtype=np.float32), np.ones((2, 2), np.float32)
    assert model.similarity(a, b).numpy() == pytest.approx(np.full((2, 2), 0.5**0.5))
    assert model.similarity_pairwise(a, b).numpy() == pytest.approx(np.full(2, 0.5**0.5))
    model.close()
