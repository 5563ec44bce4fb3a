"""Random checkpoints in the released directory layouts, for measuring and testing without gated weights.

Speed, memory, size and parity do not depend on the values of the weights, so a random checkpoint of the exact
shape measures them honestly. Quality does, so no quality figure may come from one; its directory name and
its model card say that it is synthetic.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from edge_embed_convert.families import Family, RandomTensor
from edge_embed_convert.source.modules import LEGACY_POOLING_KEYS


def write_random_checkpoint(
    directory: Path,
    family: Family,
    tokenizer: Mapping[str, bytes],
    *,
    seed: int = 0,
    pooling: str | None = None,
    normalize: bool = True,
    **overrides: Any,
) -> Path:
    """Writes a random checkpoint of a family in the layout of sentence-transformers.

    Args:
        directory: The directory to create.
        family: Gives the released shape.
        tokenizer: Tokenizer files by name, written as they are.
        seed: The seed of the random weights.
        pooling: The pooling mode; by default that of the released model.
        normalize: Whether it ends with a Normalize module.
        **overrides: Entries of config.json other than the released ones.

    Returns:
        The directory.
    """
    released = family.released
    config = {**released.config, **overrides}
    hidden = int(config[released.width_key])
    generator = torch.Generator().manual_seed(seed)
    widths = [hidden, *(int(hidden * factor) for factor in released.dense)]
    dense = [f"{number}_Dense" for number in range(2, 1 + len(widths))]
    static = family.without_transformers
    modules = [("", "StaticEmbedding")] if static else [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules += [(name, "Dense") for name in dense]
    if normalize:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
    tensors = {spec.name: _random(spec, generator) for spec in released.tensors(config)}
    _write_layout(directory, modules, released.prompts)
    if not static:
        limit = int(config["max_position_embeddings"]) - released.extra_positions
        _write_transformer(directory, config, pooling or released.pooling, hidden, limit)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    for name, in_features, out_features in zip(dense, widths, widths[1:], strict=False):
        settings = {
            "in_features": in_features,
            "out_features": out_features,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        }
        _write_json(directory / name / "config.json", settings)
        weight = _random(RandomTensor("linear.weight", (out_features, in_features)), generator)
        save_file({"linear.weight": weight}, directory / name / "model.safetensors")
    for name, data in tokenizer.items():
        (directory / name).write_bytes(data)
    return directory


def _write_layout(directory: Path, modules: Sequence[tuple[str, str]], prompts: Mapping[str, str]) -> None:
    for path, _ in modules:
        (directory / path).mkdir(parents=True, exist_ok=True)
    index = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    _write_json(directory / "modules.json", index)
    meta = {"prompts": dict(prompts), "default_prompt_name": None, "similarity_fn_name": "cosine"}
    _write_json(directory / "config_sentence_transformers.json", meta)
    (directory / "README.md").write_text(
        "---\nlicense: apache-2.0\n---\nSynthetic: random weights.\n", "utf-8"
    )


def _write_transformer(
    directory: Path, config: Mapping[str, Any], pooling: str, hidden: int, limit: int
) -> None:
    _write_json(directory / "config.json", config)
    pool = {"word_embedding_dimension": hidden, "include_prompt": True}
    flags = {f"pooling_mode_{key}": mode == pooling for key, mode in LEGACY_POOLING_KEYS.items()}
    _write_json(directory / "1_Pooling" / "config.json", pool | flags)
    _write_json(directory / "sentence_bert_config.json", {"max_seq_length": limit, "do_lower_case": False})


def _random(spec: RandomTensor, generator: torch.Generator) -> Tensor:
    values = torch.randn(*spec.shape, generator=generator) * spec.deviation
    return values + spec.mean if spec.mean else values


def _write_json(file: Path, value: object) -> None:
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
