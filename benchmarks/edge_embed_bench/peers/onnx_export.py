"""The whole encoder as one ONNX graph with free batch and length: what ONNX Runtime and OpenVINO read."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edge_embed_convert.source.checkpoint import load
from edge_embed_convert.source.reference import Reference

FILE = "model.onnx"
POOLING = ("mean", "cls", "lasttoken")
INPUTS, OUTPUT = ("input_ids", "attention_mask"), "sentence_embedding"


class Encoder(nn.Module):
    """Transformer, pooling and what follows it, over padded batches."""

    def __init__(self, checkpoint: str) -> None:
        super().__init__()
        source = load(checkpoint)
        if set(source.pooling) - set(POOLING):
            raise ValueError(f"peers do not know the pooling {', '.join(source.pooling)}")
        reference = Reference(source)
        self._pooling, self._head = source.pooling, reference.head
        self.transformer = reference.model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Returns ``(n, dimension)`` for ids and mask of ``(n, length)``."""
        states = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        vectors = torch.cat([_pool(states, attention_mask, mode) for mode in self._pooling], dim=-1)
        return self._head(vectors)


def _pool(states: Tensor, mask: Tensor, mode: str) -> Tensor:
    if mode == "cls":
        return states[:, 0]
    if mode == "lasttoken":
        last = (mask.sum(1) - 1)[:, None, None].expand(-1, 1, states.shape[-1])
        return states.gather(1, last).squeeze(1)
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def export(checkpoint: str, directory: str) -> Path:
    """Writes the graph in float32 and returns its path."""
    model, path = Encoder(checkpoint).eval(), Path(directory) / FILE
    # Two tensors: the exporter takes one object in two places for one input.
    tokens, mask = (torch.ones(2, 24, dtype=torch.int64) for _ in INPUTS)
    free: dict[int, Any] = {0: torch.export.Dim("batch", min=1, max=4096), 1: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about itself
        torch.onnx.export(
            model,
            (tokens, mask),
            str(path),
            dynamo=True,
            dynamic_shapes=(free, free),
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            verbose=False,
        )
    return path
