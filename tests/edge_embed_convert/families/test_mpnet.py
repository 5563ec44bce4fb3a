"""MPNet: exact to sentence-transformers at every length, and taken whole by the delegate."""

from __future__ import annotations

import pytest
import torch

from edge_embed.engine.litert.delegate import partitions
from edge_embed.errors import CheckpointError
from edge_embed_convert.families.mpnet import FAMILY, parse
from edge_embed_convert.graph.rewrite import build, survives_float16
from edge_embed_convert.layers.relative import relative_buckets
from edge_embed_convert.source.checkpoint import load

TOLERANCE = 1e-5


def test_vectors_are_exact(family_checks) -> None:
    """150 tokens are further apart than the 128 where distances begin to share a bucket."""
    directory = family_checks.write("mpnet", max_position_embeddings=152)
    assert load(directory).max_tokens == 150
    assert family_checks.exact(directory, [1, 8, 64, 129, 149, 150]) <= TOLERANCE


def test_the_bias_of_attention_matters(family_checks, rewrite_tensors) -> None:
    """Otherwise the test above could not see it."""
    directory = family_checks.write("mpnet")
    before = build(load(directory), 1)
    rewrite_tensors(directory, lambda t: t["encoder.relative_attention_bias.weight"].zero_())
    tokens = torch.arange(10, 40)[None].int()
    difference = (build(load(directory), 1)(tokens)["embedding"] - before(tokens)["embedding"]).abs().max()
    assert float(difference) > 100 * TOLERANCE


def test_the_buckets_of_distances_are_those_of_transformers() -> None:
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    distances = torch.arange(-600, 601)
    theirs = MPNetEncoder.relative_position_bucket(distances, num_buckets=32)
    assert torch.equal(relative_buckets(distances, 32), theirs)


def test_one_partition_for_each_bucket(family_checks) -> None:
    path = family_checks.exported(family_checks.write("mpnet"), [16, 64])
    for length in (16, 64):
        assert partitions(path, length).partitions == 1


def test_float16_is_safe(family_checks) -> None:
    model = build(load(family_checks.write("mpnet")), 1)
    assert survives_float16(model, [list(range(5, 13)), list(range(5, 69))])


@pytest.mark.parametrize(
    ("key", "value"),
    [("relative_attention_num_buckets", 64), ("hidden_act", "swish"), ("pad_token_id", 0)],
)
def test_what_is_not_computed_is_refused(key, value) -> None:
    with pytest.raises(CheckpointError, match=key):
        parse({**FAMILY.released.config, key: value})
