"""The graph of the runtime's tests is the one that its maker describes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from edge_embed import Embedder

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))
import tiny_graph


def test_the_kept_graph_answers_as_its_encoder(tiny_model: Path) -> None:
    encoder = tiny_graph.encoder()
    with Embedder(tiny_model, num_threads=1, weight_cache="memory") as model:
        for length in (3, 8, 15, 32):
            ids = [(7 * i) % (tiny_graph.VOCABULARY - 1) + 1 for i in range(length)]
            with torch.inference_mode():
                expected = encoder(torch.tensor([ids], dtype=torch.int32))["embedding"][0].numpy()
            assert np.abs(model.encode_tokens(ids) - expected).max() < 1e-5
