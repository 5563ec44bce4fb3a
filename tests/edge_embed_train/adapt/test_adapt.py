"""UL2's tasks, the mapping of weights, and the whole stage on a tiny Gemma 3."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_embed.errors import CheckpointError
from edge_embed_convert.source.checkpoint import load
from edge_embed_train.adapt import TASKS, Task, corrupt, draw_task, encoder_decoder, encoder_of
from edge_embed_train.run import train

SENTINELS = list(range(1000, 1032))
END = 1


@given(
    st.lists(st.integers(10, 900), min_size=2, max_size=80),
    st.sampled_from(TASKS),
    st.integers(0, 2**32 - 1),
)
def test_nothing_of_a_text_is_lost(ids: list[int], task: Task, seed: int) -> None:
    inputs, target = corrupt(ids, task, SENTINELS, END, np.random.default_rng(seed))
    assert target[-1] == END
    assert inputs
    spans: dict[int, list[int]] = {}
    if not task.span:
        assert inputs + target[:-1] == ids
        return
    last = None
    for token in target[:-1]:
        if token in SENTINELS:
            last = token
            spans[last] = []
        else:
            assert last is not None
            spans[last].append(token)
    filled = [t for token in inputs for t in spans.get(token, [token])]
    assert filled == ids
    assert all(spans.values())
    assert not any(a in spans and b in spans for a, b in pairwise(inputs))


def test_rates_spans_and_mixture_are_those_of_the_tasks() -> None:
    generator = np.random.default_rng(0)
    for task in TASKS[:4]:
        taken, spans = [], []
        for _ in range(50):
            _, target = corrupt(list(range(10, 410)), task, SENTINELS, END, generator)
            marks = sum(token in SENTINELS for token in target)
            taken.append((len(target) - 1 - marks) / 400)
            spans.append((len(target) - 1 - marks) / marks)
        assert np.mean(taken) == pytest.approx(task.rate, abs=0.01)
        if task.span * 32 > task.rate * 400:  # else the sentinels are too few
            assert np.mean(spans) == pytest.approx(task.span, rel=0.2)
    drawn = [TASKS.index(draw_task(generator)) for _ in range(4000)]
    assert np.bincount(drawn) / 4000 == pytest.approx([1 / 8] * 4 + [1 / 2], abs=0.03)


@pytest.fixture(scope="module")
def decoder(tokenizer_files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Gemma 3 decoder."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=160,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        query_pre_attn_scalar=16,
        max_position_embeddings=64,
        sliding_window=32,
        layer_types=["sliding_attention", "full_attention"],
    )
    directory = tmp_path_factory.mktemp("decoder") / "gemma"
    Gemma3ForCausalLM(config).save_pretrained(directory)
    for name, data in tokenizer_files.items():
        (directory / name).write_bytes(data)
    return directory


def test_both_halves_have_the_decoders_weights(decoder: Path) -> None:
    from transformers import AutoModelForCausalLM, Gemma3TextModel

    source = AutoModelForCausalLM.from_pretrained(decoder, dtype=torch.float32).eval()
    both = encoder_decoder(source).eval()
    layer = source.model.layers[1]
    for half in (both.model.encoder.text_model, both.model.decoder):
        assert torch.equal(half.layers[1].self_attn.q_proj.weight, layer.self_attn.q_proj.weight)
        assert torch.equal(half.layers[1].mlp.down_proj.weight, layer.mlp.down_proj.weight)
        assert torch.equal(half.layers[1].pre_self_attn_layernorm.weight, layer.input_layernorm.weight)
        assert torch.equal(half.embed_tokens.weight, source.model.embed_tokens.weight)
    assert both.lm_head.out_proj.weight is both.model.decoder.embed_tokens.weight
    encoder = encoder_of(both, source.config)
    assert isinstance(encoder, Gemma3TextModel)
    ids = torch.randint(4, 160, (3, 14))
    theirs = both.model.encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    ours = encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    # Tokens see those after them: not so in the decoder.
    other = ids.clone()
    other[:, -1] = 5
    assert not torch.allclose(encoder(input_ids=other).last_hidden_state[:, 0], ours[:, 0])
    assert not torch.equal(
        encoder_decoder(source, copy=False).model.decoder.layers[0].mlp.up_proj.weight,
        source.model.layers[0].mlp.up_proj.weight,
    )


def test_another_architecture_is_refused() -> None:
    from types import SimpleNamespace

    with pytest.raises(CheckpointError, match="Gemma 3"):
        encoder_decoder(SimpleNamespace(config=SimpleNamespace(model_type="llama")))


def test_a_decoder_becomes_an_encoder_that_can_be_converted(
    decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["the", "red", "planet", "mars", "stone", "river", "sings", "over", "old", "green", "hills"]
    rows = [{"text": " ".join(words[i % 11 :] + words[: i % 11])} for i in range(60)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'name = "adapted"\nmodel = "{decoder}"\n[data.texts]\npath = "texts.jsonl"\n'
        '[[stage]]\nkind = "adapt"\ndata = ["texts"]\ndecoder_steps = 40\nsteps = 20\n'
        "batch_size = 8\nlength = 24\nlearning_rate = 3e-3\nmax_tokens = 32\n"
    )
    result = train(recipe, tmp_path / "run")
    records = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for kind in ("decoder", "UL2"):
        losses = [r["loss"] for r in records if r["stage"] == f"adapt: {kind}"]
        assert losses[-1] < losses[0]
    checkpoint = load(result.model)
    assert [(d.in_features, d.out_features) for d in checkpoint.dense] == [(32, 128), (128, 32)]
    assert checkpoint.config["use_bidirectional_attention"] is True
    assert checkpoint.config["sliding_window"] == 32
    assert checkpoint.max_tokens == 32
    # A run that was stopped goes on to the same weights.
    from edge_embed_train.adapt import loop

    save, saved = loop._save, []

    def stop(*args: Any) -> None:
        save(*args)
        saved.append(args[2])
        if len(saved) == 13:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_save", stop)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "again")
    monkeypatch.setattr(loop, "_save", save)
    again = train(recipe, tmp_path / "again")
    files = [m / "model.safetensors" for m in (result.model, again.model)]
    assert files[0].read_bytes() == files[1].read_bytes()
