"""Random checkpoints in the released directory layouts, for measuring and testing without gated weights.

Speed, memory, size and parity do not depend on what the weights say, so a random checkpoint of the exact
shape measures them honestly. Quality does, so no quality figure may come from one; its directory name and
its model card say that it is synthetic.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

EMBEDDINGGEMMA_300M: dict[str, Any] = {
    "architectures": ["Gemma3TextModel"],
    "model_type": "gemma3_text",
    "vocab_size": 262144,
    "hidden_size": 768,
    "intermediate_size": 1152,
    "num_hidden_layers": 24,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 2048,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-6,
    "sliding_window": 512,
    "_sliding_window_pattern": 6,
    "rope_theta": 1_000_000.0,
    "rope_local_base_freq": 10_000.0,
    "use_bidirectional_attention": True,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
"""The released configuration of EmbeddingGemma-300M (arXiv 2509.20354 and its config.json)."""

DENSE_FACTOR = 4
"""The first Dense module widens by this, the second narrows back (768 → 3072 → 768)."""

EMBEDDINGGEMMA_PROMPTS = {
    "query": "task: search result | query: ",
    "document": "title: none | text: ",
    "STS": "task: sentence similarity | query: ",
    "Classification": "task: classification | query: ",
    "Clustering": "task: clustering | query: ",
}
"""Some of the released prompts; a real checkpoint's own file is always read instead."""

MINILM_L6: dict[str, Any] = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 384,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}
"""The released configuration of all-MiniLM-L6-v2."""


def write_embeddinggemma(
    directory: Path, tokenizer: Mapping[str, bytes], *, seed: int = 0, **overrides: Any
) -> Path:
    """Writes a random EmbeddingGemma checkpoint with its two Dense modules.

    Args:
        directory: Created; the files of the released layout go into it.
        tokenizer: Tokenizer files by name, written as they are.
        seed: Of the random weights.
        **overrides: Entries of config.json other than the released ones.

    Returns:
        The directory.
    """
    config = {**EMBEDDINGGEMMA_300M, **overrides}
    hidden, wide = config["hidden_size"], config["hidden_size"] * DENSE_FACTOR
    generator = torch.Generator().manual_seed(seed)
    modules = [
        ("", "Transformer"),
        ("1_Pooling", "Pooling"),
        ("2_Dense", "Dense"),
        ("3_Dense", "Dense"),
        ("4_Normalize", "Normalize"),
    ]
    _write_layout(directory, config, dict(_gemma_tensors(config, generator)), modules, EMBEDDINGGEMMA_PROMPTS)
    for name, out_features, in_features in (("2_Dense", wide, hidden), ("3_Dense", hidden, wide)):
        dense = {
            "in_features": in_features,
            "out_features": out_features,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        }
        _write_json(directory / name / "config.json", dense)
        weight = _normal(generator, out_features, in_features)
        save_file({"linear.weight": weight}, directory / name / "model.safetensors")
    _write_tokenizer(directory, tokenizer)
    return directory


def write_bert(
    directory: Path,
    tokenizer: Mapping[str, bytes],
    *,
    seed: int = 0,
    pooling: str = "mean",
    normalize: bool = True,
    **overrides: Any,
) -> Path:
    """Writes a random BERT checkpoint in the layout of all-MiniLM-L6-v2. Arguments as above."""
    config = {**MINILM_L6, **overrides}
    generator = torch.Generator().manual_seed(seed)
    modules = [
        ("", "Transformer"),
        ("1_Pooling", "Pooling"),
        *([("2_Normalize", "Normalize")] if normalize else []),
    ]
    _write_layout(directory, config, dict(_bert_tensors(config, generator)), modules, {}, pooling)
    _write_tokenizer(directory, tokenizer)
    return directory


def _write_layout(
    directory: Path,
    config: dict[str, Any],
    tensors: dict[str, Tensor],
    modules: list[tuple[str, str]],
    prompts: dict[str, str],
    pooling: str = "mean",
) -> None:
    for path, _ in modules:
        (directory / path).mkdir(parents=True, exist_ok=True)
    _write_json(directory / "config.json", config)
    index = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    _write_json(directory / "modules.json", index)
    pool = {"word_embedding_dimension": config["hidden_size"], "include_prompt": True}
    keys = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max"}
    flags = {f"pooling_mode_{key}": mode == pooling for key, mode in keys.items()}
    _write_json(directory / "1_Pooling" / "config.json", pool | flags)
    limit = {"max_seq_length": config["max_position_embeddings"], "do_lower_case": False}
    _write_json(directory / "sentence_bert_config.json", limit)
    meta = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    _write_json(directory / "config_sentence_transformers.json", meta)
    (directory / "README.md").write_text(
        "---\nlicense: apache-2.0\n---\nSynthetic: random weights.\n", "utf-8"
    )
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def _gemma_tensors(config: dict[str, Any], generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    query, key = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    yield "embed_tokens.weight", _normal(generator, config["vocab_size"], hidden, scale=0.05)
    for index in range(config["num_hidden_layers"]):
        layer = f"layers.{index}"
        projections = {"q": (query, hidden), "k": (key, hidden), "v": (key, hidden), "o": (hidden, query)}
        for name, shape in projections.items():
            yield f"{layer}.self_attn.{name}_proj.weight", _normal(generator, *shape)
        for name in ("q", "k"):
            yield f"{layer}.self_attn.{name}_norm.weight", _normal(generator, head, scale=0.3)
        for name, shape in {"gate": (inner, hidden), "up": (inner, hidden), "down": (hidden, inner)}.items():
            yield f"{layer}.mlp.{name}_proj.weight", _normal(generator, *shape)
        for name in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            yield f"{layer}.{name}_layernorm.weight", _normal(generator, hidden, scale=0.3)
    yield "norm.weight", _normal(generator, hidden, scale=0.3)


def _bert_tensors(config: dict[str, Any], generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]

    def norm(name: str) -> Iterator[tuple[str, Tensor]]:
        yield f"{name}.weight", 1 + _normal(generator, hidden, scale=0.2)
        yield f"{name}.bias", _normal(generator, hidden, scale=0.1)

    def dense(name: str, out_features: int, in_features: int) -> Iterator[tuple[str, Tensor]]:
        yield f"{name}.weight", _normal(generator, out_features, in_features, scale=0.05)
        yield f"{name}.bias", _normal(generator, out_features)

    for name, rows in (
        ("word", "vocab_size"),
        ("position", "max_position_embeddings"),
        ("token_type", "type_vocab_size"),
    ):
        yield f"embeddings.{name}_embeddings.weight", _normal(generator, config[rows], hidden, scale=0.05)
    yield from norm("embeddings.LayerNorm")
    for index in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{index}"
        for name in ("query", "key", "value"):
            yield from dense(f"{layer}.attention.self.{name}", hidden, hidden)
        yield from dense(f"{layer}.attention.output.dense", hidden, hidden)
        yield from norm(f"{layer}.attention.output.LayerNorm")
        yield from dense(f"{layer}.intermediate.dense", inner, hidden)
        yield from dense(f"{layer}.output.dense", hidden, inner)
        yield from norm(f"{layer}.output.LayerNorm")


def _normal(generator: torch.Generator, *shape: int, scale: float = 0.02) -> Tensor:
    return torch.randn(*shape, generator=generator) * scale


def _write_tokenizer(directory: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (directory / name).write_bytes(data)


def _write_json(file: Path, value: object) -> None:
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
