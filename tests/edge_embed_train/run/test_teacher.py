"""The teacher as a file of the runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed.errors import TruncationWarning
from edge_embed_train.run.inputs import Teacher

GOLDEN = Path(__file__).parents[2] / "golden" / "schema1"


def test_a_file_computes_the_vectors_and_names_them() -> None:
    bert, gemma = str(GOLDEN / "bert.tflite"), str(GOLDEN / "gemma.tflite")
    teacher = Teacher("no/such-checkpoint", bert)
    texts = ["the red planet", "x " * 900]  # the second is too long for the model
    with pytest.warns(TruncationWarning):
        found = teacher.model.encode(
            texts, batch_size=8, normalize_embeddings=True, show_progress_bar=False, prompt=""
        )
    with Embedder(bert) as model:
        assert teacher.dimension == model.get_embedding_dimension() == found.shape[1]
        assert np.array_equal(found[0], model.encode(texts[0], prompt="", normalize_embeddings=True))
    assert teacher.fingerprint == Teacher("another", bert).fingerprint
    assert teacher.fingerprint != Teacher("another", gemma).fingerprint
