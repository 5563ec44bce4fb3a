"""Layers that are left out of the computation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edge_embed.errors import InputError
from edge_embed_train.run.layers import skipped_layers
from edge_embed_train.run.training import load_model

TEXTS = ["the red planet mars", "night falls"]


def test_skipped_layers_return_their_input_and_come_back(tiny_gemma: Path) -> None:
    model = load_model(tiny_gemma)
    encoder = model[0].model
    before = model.encode(TEXTS, convert_to_tensor=True)
    ids = torch.tensor([[2, 30, 31, 3]])
    mask = torch.ones_like(ids)
    with skipped_layers(model):
        found = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        assert torch.equal(found, encoder.norm(encoder.embed_tokens(ids)))
        assert not any(parameter.requires_grad for parameter in encoder.layers.parameters())
        assert encoder.embed_tokens.weight.requires_grad
        assert not torch.equal(model.encode(TEXTS, convert_to_tensor=True), before)
    assert torch.equal(model.encode(TEXTS, convert_to_tensor=True), before)
    assert all(parameter.requires_grad for parameter in encoder.layers.parameters())


def test_layers_come_back_after_an_error(tiny_gemma: Path) -> None:
    model = load_model(tiny_gemma)
    before = model.encode(TEXTS, convert_to_tensor=True)
    with pytest.raises(KeyboardInterrupt), skipped_layers(model):
        raise KeyboardInterrupt
    assert torch.equal(model.encode(TEXTS, convert_to_tensor=True), before)


def test_other_shapes_are_refused(tiny_bert: Path) -> None:
    with pytest.raises(InputError, match="cannot be skipped"), skipped_layers(load_model(tiny_bert)):
        pass
