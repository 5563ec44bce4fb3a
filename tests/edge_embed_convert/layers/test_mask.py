"""The token mask: padding is what follows the last other token, at every length and in float16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edge_embed_convert.layers.common import token_mask

TEXTS = ("[PAD]", "a [PAD] b", "The ferry [PAD] [PAD] leaves [PAD]", "[PAD] [PAD] stone")


@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("length", [1, 2, 16, 127, 2048, 2049, 4096])
def test_mask(length: int, pad: int) -> None:
    generator = torch.Generator().manual_seed(length)
    for count in {0, 1, length // 2, length - 1, length}:
        ids = torch.full((1, length), pad, dtype=torch.int32)
        ids[0, :count] = torch.randint(0, 4, (count,), generator=generator, dtype=torch.int32)
        if count:
            ids[0, count - 1] = 9
        assert token_mask(ids, pad)[0].tolist() == [1.0] * count + [0.0] * (length - count)


def test_a_spelled_padding_token_is_seen(bert_checkpoint: Path, ours) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="not installed")
    theirs = sentence_transformers.SentenceTransformer(str(bert_checkpoint), device="cpu")
    model = ours.load(bert_checkpoint)
    for text, wanted in zip(TEXTS, theirs.encode(list(TEXTS)), strict=True):
        ids = theirs.tokenizer(text)["input_ids"]
        assert 0 in ids
        assert np.abs(ours.run(model, ids, 32) - wanted).max() <= 1e-5
