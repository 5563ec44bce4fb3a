"""DistilBERT: exact to sentence-transformers at every length, and taken whole by the delegate."""

from __future__ import annotations

import pytest
import torch

from edge_embed.engine.litert.delegate import partitions
from edge_embed.errors import CheckpointError
from edge_embed_convert.families.distilbert import FAMILY, parse
from edge_embed_convert.graph.rewrite import build, survives_float16
from edge_embed_convert.source.checkpoint import load

TOLERANCE = 1e-5


def test_vectors_are_exact(family_checks) -> None:
    assert family_checks.exact(family_checks.write("distilbert"), [1, 8, 63, 64]) <= TOLERANCE


def test_one_partition_for_each_bucket(family_checks) -> None:
    path = family_checks.exported(family_checks.write("distilbert"), [16, 64])
    for length in (16, 64):
        assert partitions(path, length).partitions == 1


def test_float16_is_safe(family_checks) -> None:
    model = build(load(family_checks.write("distilbert")), 0)
    assert survives_float16(model, [list(range(5, 13)), list(range(5, 69))])


def test_a_checkpoint_with_a_head(family_checks, rewrite_tensors) -> None:
    directory = family_checks.write("distilbert")
    tokens = torch.arange(10, 30)[None].int()
    before = build(load(directory), 0)(tokens)["embedding"]

    def wrap(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[f"distilbert.{name}"] = tensors.pop(name)
        tensors["vocab_transform.weight"] = torch.ones(64, 64)

    rewrite_tensors(directory, wrap)
    assert torch.equal(build(load(directory), 0)(tokens)["embedding"], before)


@pytest.mark.parametrize(("key", "value"), [("activation", "swish"), ("dim", None), ("n_layers", 0)])
def test_what_is_not_computed_is_refused(key, value) -> None:
    with pytest.raises(CheckpointError, match=key):
        parse({**FAMILY.released.config, key: value})
