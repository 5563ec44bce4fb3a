"""RoBERTa, XLM-R and CamemBERT: exact to sentence-transformers, and taken whole by the delegate."""

from __future__ import annotations

import pytest
import torch

from edge_embed.engine.litert.delegate import partitions
from edge_embed.errors import CheckpointError
from edge_embed_convert.families.roberta import FAMILY, parse
from edge_embed_convert.graph.rewrite import build, survives_float16
from edge_embed_convert.source.checkpoint import load

TOLERANCE = 1e-5


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta", "camembert"])
def test_vectors_are_exact(model_type, family_checks) -> None:
    directory = family_checks.write("roberta", model_type=model_type)
    assert family_checks.exact(directory, [1, 8, 63, 64]) <= TOLERANCE


def test_a_table_of_514_rows_serves_512_tokens(family_checks, edit) -> None:
    directory = family_checks.write("roberta", max_position_embeddings=514)
    edit(directory / "sentence_bert_config.json", max_seq_length=514)
    assert load(directory).max_tokens == 512
    with pytest.raises(CheckpointError, match="maximum length"):
        load(directory, max_tokens=513)
    assert family_checks.exact(directory, [511, 512]) <= TOLERANCE


def test_positions_begin_after_the_pad_id(family_checks) -> None:
    directory = family_checks.write("roberta", pad_token_id=3)
    assert load(directory).max_tokens == 62
    assert family_checks.exact(directory, [8, 62]) <= TOLERANCE


def test_a_checkpoint_with_a_head(family_checks, rewrite_tensors) -> None:
    """As a masked language model is saved: the encoder below `roberta.`, its head beside it."""
    directory = family_checks.write("roberta")
    tokens = torch.arange(10, 30)[None].int()
    before = build(load(directory), 1)(tokens)["embedding"]

    def wrap(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[f"roberta.{name}"] = tensors.pop(name)
        tensors["lm_head.dense.weight"] = torch.ones(64, 64)

    rewrite_tensors(directory, wrap)
    assert torch.equal(build(load(directory), 1)(tokens)["embedding"], before)


def test_one_partition_for_each_bucket(family_checks) -> None:
    path = family_checks.exported(family_checks.write("roberta"), [16, 64])
    for length in (16, 64):
        assert partitions(path, length).partitions == 1


def test_float16_is_safe(family_checks) -> None:
    model = build(load(family_checks.write("roberta")), 1)
    assert survives_float16(model, [list(range(5, 13)), list(range(5, 69))])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("position_embedding_type", "relative_key"),
        ("hidden_act", "swish"),
        ("is_decoder", True),
        ("max_position_embeddings", 2),
        ("num_attention_heads", "12"),
    ],
)
def test_what_is_not_computed_is_refused(key, value) -> None:
    with pytest.raises(CheckpointError, match=key):
        parse({**FAMILY.released.config, key: value})
