"""Makes `tiny.tflite`, the graph of the runtime's tests: `python tests/golden/tiny_graph.py`.

It is kept as a file so that the runtime's tests need neither PyTorch nor the converter, as the runtime does
not. It has a signature for each of `BUCKETS`, a table of `VOCABULARY` rows, and vectors of `DIMENSION`
numbers. The order of the tokens matters to it, and padding does not.
"""

from __future__ import annotations

from pathlib import Path

import litert_torch
import torch
from torch import nn

BUCKETS = [8, 16, 32]
DIMENSION = 8
VOCABULARY = 512

PATH = Path(__file__).with_name("tiny.tflite")


class Tiny(nn.Module):
    """Mean pooling over a table with positions and two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(VOCABULARY, 16))
        self.places = nn.Parameter(torch.randn(BUCKETS[-1], 16))
        self.layers = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, DIMENSION))

    def forward(self, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
        real = (tokens != 0).float().unsqueeze(-1)
        hidden = nn.functional.embedding(tokens, self.table) + self.places[: tokens.shape[1]]
        pooled = (self.layers(hidden) * real).sum(1) / real.sum(1).clamp(min=1.0)
        return {"embedding": pooled * torch.rsqrt((pooled * pooled).sum(-1, keepdim=True) + 1e-12)}


def encoder() -> Tiny:
    """Returns the encoder, whose weights depend on the seed alone."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return Tiny().eval()


def main() -> None:
    """Converts the encoder and writes the file."""
    model, converter = encoder(), litert_torch
    for length in BUCKETS:
        sample = {"tokens": torch.ones(1, length, dtype=torch.int32)}
        converter = converter.signature(f"embed_{length}", model, sample_kwargs=sample)
    converter.convert(lightweight_conversion=True).export(str(PATH))


if __name__ == "__main__":
    main()
