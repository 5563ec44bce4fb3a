"""Quantization-aware training: in training, the model computes with the weights that the file will hold.

`quantize_model` makes a sentence-transformers model compute so, `restore_model` makes it plain again;
`clip_model` goes ahead of a recipe with 2 bits, `round_model` before the result of a run is saved.
`stored` and `rounded_rows` are the arithmetic: what ai-edge-quantizer writes, and how XNNPACK rounds the
inputs; `rounded_weight` applies it to one weight. `trainable_recipe` reads a recipe that training can follow,
`trained_recipe` names the one that a model was trained for.
"""

from edge_embed_train.qat.grids import rounded_rows, stored
from edge_embed_train.qat.model import (
    clip_model,
    quantize_model,
    quantized_weights,
    restore_model,
    round_model,
    rounded_weight,
    trainable_recipe,
    trained_recipe,
)

__all__ = [
    "clip_model",
    "quantize_model",
    "quantized_weights",
    "restore_model",
    "round_model",
    "rounded_rows",
    "rounded_weight",
    "stored",
    "trainable_recipe",
    "trained_recipe",
]
