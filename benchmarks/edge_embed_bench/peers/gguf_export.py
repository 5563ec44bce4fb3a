"""A checkpoint as GGUF in float32, with token ids and no tokenizer: what llama.cpp quantizes and runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from torch import Tensor

from edge_embed_convert.source.checkpoint import Checkpoint, load
from edge_embed_convert.source.reference import Reference
from edge_embed_convert.source.weights import Weights

_POOLING = {"mean": gguf.PoolingType.MEAN, "cls": gguf.PoolingType.CLS}

_DENSE = ("dense_2", "dense_3")
"""llama.cpp's names for EmbeddingGemma's two projections, after the modules' directories."""

Matrix = npt.NDArray[np.float32]


def write(checkpoint: str, path: Path) -> None:
    """Writes the encoder, its pooling and its Dense modules.

    Raises:
        ValueError: If llama.cpp has no such encoder.
    """
    source = load(checkpoint)
    if len(source.pooling) != 1 or source.pooling[0] not in _POOLING:
        raise ValueError(f"llama.cpp does not know the pooling {', '.join(source.pooling)}")
    reference = Reference(source)
    write_head = {"embeddinggemma": _gemma, "bert": _bert}.get(source.family.name)
    if write_head is None:
        raise ValueError(f"this adapter writes no GGUF for {source.config['model_type']}")
    writer = write_head(path, source)
    writer.add_vocab_size(source.encoder.vocab_size)
    writer.add_tokenizer_model("none")
    writer.add_pooling_type(_POOLING[source.pooling[0]])
    for name, tensor in _tensors(reference, source, writer.arch):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gemma(path: Path, source: Checkpoint) -> Any:
    config: Any = source.encoder
    if config.attention_scale != config.head_dim**-0.5 or config.rope_factor_global != 1.0:
        raise ValueError("llama.cpp's gemma-embedding has no such attention scale or rotary scaling")
    writer = _writer(path, gguf.MODEL_ARCH.GEMMA_EMBEDDING, source, config.max_positions)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.eps)
    writer.add_rope_freq_base(config.rope_theta_global)
    writer.add_rope_freq_base_swa(config.rope_theta_local)
    writer.add_sliding_window(2 * config.window_radius)
    writer.add_sliding_window_pattern(list(config.sliding))
    if source.dense:
        plain = all(
            not layer.bias and not layer.residual and layer.activation == "identity" for layer in source.dense
        )
        if len(source.dense) != len(_DENSE) or not plain:
            raise ValueError("llama.cpp knows two Dense modules, without bias or activation")
        for name, layer in zip(_DENSE, source.dense, strict=True):
            writer.add_dense_features_dims(name, layer.in_features, layer.out_features)
    return writer


def _bert(path: Path, source: Checkpoint) -> Any:
    if source.dense:
        raise ValueError("llama.cpp runs no Dense module after BERT")
    config: Any = source.encoder
    writer = _writer(path, gguf.MODEL_ARCH.BERT, source, config.max_positions)
    writer.add_layer_norm_eps(config.eps)
    writer.add_causal_attention(False)
    writer.add_token_type_count(config.token_types)
    return writer


def _writer(path: Path, arch: Any, source: Checkpoint, positions: int) -> Any:
    writer: Any = gguf.GGUFWriter(str(path), gguf.MODEL_ARCH_NAMES[arch])
    writer.add_name(source.id)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(positions)
    config: Any = source.encoder
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.heads)
    return writer


def _tensors(reference: Reference, source: Checkpoint, arch: str) -> Iterator[tuple[str, Matrix]]:
    """Yields every weight under llama.cpp's name. Gemma's norms are stored as 1 + weight."""
    kind = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    config: Any = source.encoder
    names: Any = gguf.get_tensor_name_map(kind, config.layers)
    gemma = kind == gguf.MODEL_ARCH.GEMMA_EMBEDDING
    for key, tensor in reference.model.state_dict().items():
        if any(re.fullmatch(pattern, key) for pattern in source.family.unused):
            continue
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise ValueError(f"llama.cpp has no place for {key}")
        yield name, _array(tensor + 1 if gemma and key.endswith("norm.weight") else tensor)
    for layer, name in zip(source.dense, _DENSE, strict=False):
        weight = Weights.open(layer.path).take("linear.weight", layer.out_features, layer.in_features)
        yield f"{name}.weight", _array(weight)


def _array(tensor: Tensor) -> Matrix:
    result: Matrix = tensor.detach().float().contiguous().numpy()
    return result
