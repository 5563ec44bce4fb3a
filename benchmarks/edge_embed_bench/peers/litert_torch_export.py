"""litert-torch's own EmbeddingGemma example, exported and quantized as its script does."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from edge_embed_convert.families.gemma3 import Gemma3Config
from edge_embed_convert.source.checkpoint import load


def export(checkpoint: str, lengths: list[int], directory: Path) -> None:
    """Writes `LENGTH.tflite` for every length, int8.

    Raises:
        ValueError: If the library ships no graph of this family.
    """
    source = load(checkpoint)
    if source.config["model_type"] != "gemma3_text":
        raise ValueError(f"litert-torch ships no encoder of the family {source.config['model_type']}")
    with _schema_of_tensorflow():
        import litert_torch  # with what it needs in place
        from litert_torch.generative.examples.embedding_gemma import embedding_gemma
        from litert_torch.generative.quantize import quant_recipes
    stock = embedding_gemma.get_model_config()
    shape = Gemma3Config.parse(source.config, source.sliding_window)
    config = _sized(stock, shape, source.dense[0].out_features, max(lengths))
    with mock.patch.object(embedding_gemma, "get_model_config", return_value=config):
        model = embedding_gemma.build_model(str(source.path)).eval()
    recipe = quant_recipes.full_dynamic_recipe(mcfg=config)
    for length in lengths:
        sample = tuple(torch.ones(1, length, dtype=torch.long) for _ in ("tokens", "mask"))
        graph = litert_torch.convert(model, sample, quant_config=recipe)
        graph.export(str(directory / f"{length}.tflite"))


def _sized(stock: Any, config: Gemma3Config, dense: int, longest: int) -> Any:
    """Returns the example's configuration with a checkpoint's sizes: itself for the released shape."""
    blocks = []
    local, glob = stock.block_configs[0], stock.block_configs[5]
    for sliding in config.sliding:
        block = local if sliding else glob
        attention = dataclasses.replace(
            block.attn_config,
            num_heads=config.heads,
            head_dim=config.head_dim,
            num_query_groups=config.kv_heads,
            sliding_window_size=2 * config.window_radius if sliding else None,
        )
        feed = dataclasses.replace(block.ff_config, intermediate_size=config.intermediate_size)
        blocks.append(dataclasses.replace(block, attn_config=attention, ff_config=feed))
    return dataclasses.replace(
        stock,
        vocab_size=config.vocab_size,
        num_layers=config.layers,
        max_seq_len=longest,
        embedding_dim=config.hidden_size,
        embedding_scale=config.hidden_size**0.5,
        block_configs=blocks,
        dense_intermediate_size=dense,
    )


@contextlib.contextmanager
def _schema_of_tensorflow() -> Iterator[None]:
    """Makes the TFLite schema importable where litert-torch's generative layers expect it.

    They import it from a package that litert-torch does not depend on.

    ai-edge-litert ships the same generated module.
    """
    if importlib.util.find_spec("tensorflow") is not None:
        yield
        return
    from ai_edge_litert import schema_py_generated

    name, added = "tensorflow.lite.python", []
    parent: Any = None
    for part in ("tensorflow", "tensorflow.lite", name):
        parent = sys.modules[part] = types.ModuleType(part)
        # Without one, a library that looks whether TensorFlow is installed would fail.
        parent.__spec__ = importlib.machinery.ModuleSpec(part, None)
        added.append(part)
    parent.schema_py_generated = schema_py_generated
    try:
        yield
    finally:
        for part in added:
            del sys.modules[part]
