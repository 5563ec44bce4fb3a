"""Evaluates models on sets of data and compares them with their fp32 source."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_embed.errors import InputError
from edge_embed.progress import Step, Ticker
from edge_embed_bench.quality import metrics
from edge_embed_bench.quality.data import Bitext, Classification, Dataset, Retrieval, Similarity, read_all
from edge_embed_bench.quality.metrics import Floats, Outcome
from edge_embed_bench.quality.models import (
    BITEXT,
    CLASSIFICATION,
    DOCUMENT,
    QUERY,
    STS,
    Candidate,
    Embeddings,
    Facts,
    label_all,
)
from edge_embed_bench.records.machine import describe_machine

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from edge_embed_convert.source.checkpoint import CheckpointOptions

RESAMPLES = 1000

TOOLS = ("edge-embed", "ai-edge-litert", "numpy", "scipy", "scikit-learn", "pytrec-eval-terrier")


@dataclass(frozen=True)
class Score:
    """One model on one set, at one dimension.

    Attributes:
        value: The main metric, 0 to 1.
        low: The lower end of its 95 % bootstrap interval.
        high: The upper end.
        loss: The source's value at its full dimension minus this one; None without a source.
        loss_low: The lower end of the interval of that difference, over the same draws for both.
        loss_high: The upper end.
        agreement: Share of the ten nearest neighbours in common with the source at its full dimension.
        cosine_mean: Mean cosine to the source's vectors, where the dimensions are equal.
        cosine_min: The lowest.
        metrics: Every metric of the set.
        texts: Texts that were first embedded for this set.
        ms_per_text: Mean time to embed one of them, tokenization included; None if there are none.
    """

    model: str
    data: str
    kind: str
    dimension: int
    metric: str
    value: float
    low: float
    high: float
    loss: float | None
    loss_low: float | None
    loss_high: float | None
    agreement: float | None
    cosine_mean: float | None
    cosine_min: float | None
    metrics: dict[str, float]
    texts: int
    ms_per_text: float | None


@dataclass(frozen=True)
class Report:
    """All scores, and what they were measured on.

    Attributes:
        baseline: The label of the fp32 source, None if there is none.
        data: Kind of each set, by name.
        notes: Remarks for the reader.
    """

    models: list[Facts]
    baseline: str | None
    data: dict[str, str]
    scores: list[Score]
    notes: list[str]
    resamples: int
    machine: str
    versions: dict[str, str]
    command: str = ""
    schema_version: int = field(default=1)


@dataclass(frozen=True)
class _Embedded:
    """The vectors of a set: the queries, and the vectors among which neighbours are searched."""

    first: Floats
    second: Floats
    texts: int = 0
    seconds: float = 0.0

    def cut(self, dimension: int) -> _Embedded:
        return _Embedded(self.first[:, :dimension], self.second[:, :dimension], self.texts, self.seconds)


def evaluate(
    models: Sequence[str],
    data: Sequence[str | Path],
    *,
    source: str | None = None,
    dims: Sequence[int] | None = None,
    resamples: int = RESAMPLES,
    num_threads: int | None = None,
    progress: Step = lambda step, done, total: None,
    **options: Unpack[CheckpointOptions],
) -> Report:
    """Evaluates models on sets of data.

    The models run one after another, and each embeds a text once. They are compared with `source`, else with
    the first checkpoint among them, else with the first fp32 file.

    Args:
        models: Model files, checkpoint directories or hub ids.
        data: What `data.read` reads.
        source: The fp32 source, a checkpoint or an fp32 file, if it is not among the models.
        dims: Dimensions to cut vectors to; by default each model's own.
        resamples: Bootstrap draws.
        num_threads: Threads of one run of a file.
        progress: Called as each step begins with its name, the steps done, and the steps in all.
        **options: What checkpoints leave open.

    Raises:
        InputError: If data or a dimension cannot be used, before anything is embedded.
        ModelFileError: If a file is not one of ours.
        CheckpointError: If a checkpoint cannot be read.
    """
    sets = read_all(data)
    candidates = _candidates(models, source, num_threads, options)
    baseline = _baseline(candidates, named=source is not None)
    for candidate in candidates:
        _check_dimensions(dims, candidate.facts)
    ordered = sorted(candidates, key=lambda c: c is not baseline)  # the baseline comes first
    reference: dict[str, tuple[_Embedded, Outcome]] = {}
    scores = []
    ticker = Ticker(progress, len(ordered) * (1 + len(sets)))
    for candidate in ordered:
        ticker(f"loading {candidate.facts.label}")
        model = candidate.open()
        try:
            embeddings = Embeddings(model)
            for each in sets:
                ticker(f"{candidate.facts.label} on {each.name}")
                vectors = _embed(each, embeddings)
                if candidate is baseline:
                    reference[each.name] = (
                        vectors,
                        _score(each, vectors, candidate.facts.similarity, resamples),
                    )
                scores += [
                    _compare(
                        each, candidate.facts, vectors.cut(dimension), reference.get(each.name), resamples
                    )
                    for dimension in dims or [candidate.facts.dimension]
                ]
        finally:
            model.close()
    facts = [candidate.facts for candidate in ordered]
    return Report(
        facts,
        baseline.facts.label if baseline else None,
        {each.name: each.kind for each in sets},
        scores,
        _notes(facts, baseline.facts if baseline else None),
        resamples,
        describe_machine(),
        {tool: importlib.metadata.version(tool) for tool in TOOLS if _installed(tool)},
    )


def _candidates(
    models: Sequence[str], source: str | None, num_threads: int | None, options: CheckpointOptions
) -> list[Candidate]:
    if not models:
        raise InputError("there is no model to evaluate", expected="a model file, a checkpoint, or several")
    specs = [str(spec) for spec in models]
    if source is not None:
        specs = [source, *(spec for spec in specs if spec != source)]
    return [
        Candidate(spec, label, num_threads, **options)
        for spec, label in zip(specs, label_all(specs), strict=True)
    ]


def _baseline(candidates: Sequence[Candidate], *, named: bool) -> Candidate | None:
    if named:
        if not candidates[0].facts.exact:
            raise InputError(
                "the source is not in float32",
                got=f"{candidates[0].facts.label}, recipe {candidates[0].facts.recipe}",
                expected="the checkpoint, or a file of the recipe fp32",
            )
        return candidates[0]
    exact = [candidate for candidate in candidates if candidate.facts.exact]
    return min(exact, key=lambda c: c.facts.recipe != "source", default=None)


def _check_dimensions(dims: Sequence[int] | None, facts: Facts) -> None:
    for dimension in dims or ():
        if not 1 <= dimension <= facts.dimension:
            raise InputError(
                f"{facts.label} has no vectors of that dimension",
                got=str(dimension),
                expected=f"1 to {facts.dimension}",
            )


def _embed(data: Dataset, embed: Embeddings) -> _Embedded:
    texts, seconds = embed.texts, embed.seconds
    if isinstance(data, Retrieval):
        first, second = embed(data.queries, QUERY), embed(data.documents, DOCUMENT, data.titles)
    elif isinstance(data, Classification):
        second, first = embed(data.train_texts, CLASSIFICATION), embed(data.test_texts, CLASSIFICATION)
    elif isinstance(data, Bitext):
        first, second = embed(data.source, BITEXT), embed(data.target, BITEXT)
    else:
        first, second = embed(data.left, STS), embed(data.right, STS)
    return _Embedded(first, second, embed.texts - texts, embed.seconds - seconds)


def _score(data: Dataset, vectors: _Embedded, measure: str, resamples: int) -> Outcome:
    if isinstance(data, Retrieval):
        return metrics.score_retrieval(data, vectors.first, vectors.second, measure, resamples)
    if isinstance(data, Classification):
        return metrics.score_classification(data, vectors.second, vectors.first, resamples)
    if isinstance(data, Bitext):
        return metrics.score_bitext(data, vectors.first, vectors.second, resamples)
    return metrics.score_similarity(data, vectors.first, vectors.second, resamples)


def _compare(
    data: Dataset,
    facts: Facts,
    vectors: _Embedded,
    reference: tuple[_Embedded, Outcome] | None,
    resamples: int,
) -> Score:
    """Scores the vectors of a model and compares them with those of the source."""
    outcome, metric = _score(data, vectors, facts.similarity, resamples), metrics.MAIN[data.kind]
    low, high = metrics.interval(outcome.draws)
    loss = loss_low = loss_high = agreement = cosine_mean = cosine_min = None
    if reference is not None:
        theirs, best = reference
        loss = best.values[metric] - outcome.values[metric]
        loss_low, loss_high = metrics.interval(best.draws - outcome.draws)
        agreement = metrics.neighbour_agreement(_seek(data, vectors), _seek(data, theirs), facts.similarity)
        if vectors.first.shape[1] == theirs.first.shape[1]:
            cosines = np.concatenate(
                [metrics.cosines(vectors.first, theirs.first), metrics.cosines(vectors.second, theirs.second)]
            )
            cosine_mean, cosine_min = float(cosines.mean()), float(cosines.min())
    return Score(
        facts.label,
        data.name,
        data.kind,
        vectors.first.shape[1],
        metric,
        outcome.values[metric],
        low,
        high,
        loss,
        loss_low,
        loss_high,
        agreement,
        cosine_mean,
        cosine_min,
        outcome.values,
        vectors.texts,
        1e3 * vectors.seconds / vectors.texts if vectors.texts else None,
    )


def _seek(data: Dataset, vectors: _Embedded) -> tuple[Floats, Floats | None]:
    """Returns the queries and the vectors to search. Sentence pairs are searched among themselves."""
    if not isinstance(data, Similarity):
        return vectors.first, vectors.second
    # A sentence that occurs in several pairs would be its own neighbour.
    first = {text: place for place, text in enumerate([*data.left, *data.right])}
    return np.concatenate([vectors.first, vectors.second])[sorted(first.values())], None


def _notes(facts: Sequence[Facts], baseline: Facts | None) -> list[str]:
    if baseline is None:
        return [
            "no fp32 source was given, so neither losses nor neighbour agreement are known: name the "
            "checkpoint or an fp32 file among the models, or with --source"
        ]
    return [
        f"{each.label} was made from other weights than {baseline.label} has"
        for each in facts
        if each.weights != baseline.weights
    ]


def _installed(tool: str) -> bool:
    try:
        importlib.metadata.version(tool)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
