"""Records made by hand, and engines that misbehave on purpose in a real measuring process."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge_embed_bench.records.model import Model
from edge_embed_bench.records.record import (
    LATENCY,
    OK,
    OURS,
    Agreement,
    Cell,
    Delegate,
    EngineFacts,
    Latency,
    Load,
    Machine,
    Memory,
    ModelFacts,
    Record,
    Run,
    Storage,
)
from edge_embed_bench.targets.base import Plan, Subject

RUN = Run("edge_embed bench x.tflite", "2026-01-01T00:00:00+00:00", 1, 4, 0, [])

ENGINE = """
import os, signal, sys, time
import numpy as np
print("engines talk on stdout")

class Engine:
    calls = 0
    def load(self, job):
        self.job = job
        {load}
    def embed(self, batch):
        self.calls += 1
        {embed}
        return np.ones((len(batch), {dimension}), np.float32)
    def facts(self):
        return {{"versions": {{"fake": "1"}}, "settings": {{}}}}
"""


@pytest.fixture
def subject(tiny_model):
    """This project's engine over the tiny model."""
    return Subject(Model.open(tiny_model))


@pytest.fixture
def fake(subject, tmp_path, monkeypatch):
    """`fake("name", load="…", embed="…")` is a peer whose engine runs those statements."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(
        name: str, *, load: str = "pass", embed: str = "time.sleep(1e-4)", dimension: int = 8, **changes: Any
    ):
        source = ENGINE.format(load=load, embed=embed, dimension=dimension)
        (tmp_path / f"fake_{name}.py").write_text(source, "utf-8")
        return replace(
            subject, engine=name, module=f"fake_{name}:Engine", tokenizes=False, caches=False, **changes
        )

    return make


@pytest.fixture
def plan():
    """Few samples."""
    return Plan(RUN, loads=2, turn=2, timeout=60)


@pytest.fixture
def record():
    """`record(samples, name=…)` is a complete record; other keywords replace fields."""

    def make(
        samples=(0.010, 0.011, 0.012), *, length=16, name="tiny", recipe="int8", **changes: Any
    ) -> Record:
        complete = Record(
            kind=LATENCY,
            status=OK,
            error=None,
            engine=EngineFacts(OURS, {"edge-embed": "1"}, {"self-check": "on"}),
            model=ModelFacts(name, f"{name}.tflite", "0" * 64, recipe, 10, 8, [16, 32], False),
            cell=Cell("local", "cpu", length, 2, 1),
            machine=Machine("A CPU", "x86_64", 2, ["avx2"], None, 8 << 30, "Linux 6", "3.11.2"),
            run=RUN,
            load=Load(0.1, 0.2, 0.02, [0.05, 0.06], [0.01, 0.011]),
            latency=Latency.of(samples, tokens=length, batch=1),
            text_latency=Latency.of([s * 1.1 for s in samples], tokens=length, batch=1),
            memory=Memory(80_000_000, 20_000_000, 90_000_000),
            text_memory=Memory(90_000_000, 30_000_000, 95_000_000),
            storage=Storage(24_000_000, 11_000_000),
            delegate=Delegate(100, 1, ["GATHER"], "CPU (XNNPACK)"),
            agreement=Agreement(0.99, 0.96),
        )
        return replace(complete, **changes)

    return make


SMALL_BERT = {
    "vocab_size": 600,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
SMALL_GEMMA = {
    "vocab_size": 600,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 6,
    "num_attention_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 64,
    "query_pre_attn_scalar": 32,
    "sliding_window": 32,
    "sliding_window_pattern": 3,
}


@pytest.fixture
def small(monkeypatch):
    """The synthetic shapes, made small."""
    from edge_embed_bench.synthetic import models as synthetic
    from edge_embed_bench.synthetic import tokenizers

    for name, family, sizes, tokenizer in (
        ("minilm", "bert", SMALL_BERT, tokenizers.bert_tokenizer_files),
        ("embeddinggemma-300m", "embeddinggemma", SMALL_GEMMA, tokenizers.gemma_tokenizer_files),
    ):
        shape = synthetic.Shape(partial(tokenizer, 600), family, "int8", sizes)
        monkeypatch.setitem(synthetic.SHAPES, name, shape)


@pytest.fixture(scope="session")
def synthetic_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the small synthetic models are kept for all tests."""
    return tmp_path_factory.mktemp("synthetic")


@pytest.fixture
def small_and_kept(small: None, cache_directory: Path, synthetic_models: Path) -> None:
    """As `small`; a model that another test has built, and its other forms, are used again."""
    (cache_directory / "synthetic").symlink_to(synthetic_models, target_is_directory=True)


@pytest.fixture
def bench(run):
    """`bench(path, "--lengths", "8")` runs `edge_embed bench` in this process."""
    return partial(run, "bench")
