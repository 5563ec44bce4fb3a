"""Files of every schema that was published load, and answer as they did (tests/golden/schema*/README.md)."""

from pathlib import Path

import numpy as np
import pytest

from edge_embed import Embedder

FILES = sorted((Path(__file__).parents[2] / "golden").glob("schema*/*.tflite"))
TEXTS = [
    "a red planet",
    "",
    "The quick brown fox jumps over the lazy dog. " * 3,
    "naïve café 東京 مرحبا",
    "x" * 200,
]


def test_there_are_old_files():
    assert {path.stem for path in FILES} == {"bert", "gemma"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_old_file_answers_as_it_did(path):
    expected = np.load(path.with_suffix(".npy"))
    with Embedder(path, overflow="mean", weight_cache="memory") as model:
        got = model.encode(TEXTS)
        manifest = model.manifest
    # Other processors take other kernels; without AVX-512, 0.99996 was seen.
    cosines = (got * expected).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(expected, axis=1)
    assert np.array_equal(got, expected) or cosines.min() >= 0.9999
    assert manifest.from_json(manifest.to_json()) == manifest
