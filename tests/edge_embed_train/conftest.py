"""Tiny checkpoints and data for training. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from edge_embed_convert.families import family_named
from edge_embed_convert.random_checkpoint import write_random_checkpoint

WORDS = (  # noqa: SIM905 - a list of many lines says no more
    "the a red planet mars is known as which of and water stone river sings over old green hills while seven "
    "small birds fly home before night falls on us all cat dog sleeps under warm sun bread milk cheese house "
    "garden tree apple pear plum car road train ship sea wind rain snow ice fire light dark moon star king"
).split()
VOCABULARY = 160
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "max_position_embeddings": 32,
}
GEMMA = {
    **SHAPE,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": 64,
    "pad_token_id": 0,
}
BERT = {**SHAPE, "num_attention_heads": 2}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Sums in one order, whatever the machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer_files(wordpiece_config: Callable[[int], bytes]) -> dict[str, bytes]:
    """A WordPiece tokenizer of whole words and single letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *("##" + x for x in letters)]
    pieces += [word for word in WORDS if word not in pieces]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return {
        "tokenizer.json": tokenizer.to_str().encode(),
        "tokenizer_config.json": wordpiece_config(32),
    }


Writer = Callable[..., Path]


@pytest.fixture(scope="session")
def write_tiny(tokenizer_files: dict[str, bytes]) -> Writer:
    """`write_tiny(directory, family, seed=0, **config)` writes a tiny checkpoint, `gemma` or `bert`."""

    def write(directory: Path, family: str = "gemma", seed: int = 0, **config: Any) -> Path:
        name, shape = {"gemma": ("embeddinggemma", GEMMA), "bert": ("bert", BERT)}[family]
        return write_random_checkpoint(
            directory, family_named(name), tokenizer_files, seed=seed, **{**shape, **config}
        )

    return write


@pytest.fixture(scope="session")
def tiny_gemma(write_tiny: Writer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny EmbeddingGemma of 32 numbers."""
    return write_tiny(tmp_path_factory.mktemp("gemma") / "tiny-gemma")


@pytest.fixture(scope="session")
def tiny_bert(write_tiny: Writer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT of 32 numbers."""
    return write_tiny(tmp_path_factory.mktemp("bert") / "tiny-bert", "bert")
