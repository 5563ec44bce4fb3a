"""The rewritten EmbeddingGemma encoder against transformers', in float32 and in float16 arithmetic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edge_embed_convert.families.gemma3 import Gemma3Config, encoder
from edge_embed_convert.families.gemma3.encoder import AttentionContext
from edge_embed_convert.layers import windowed
from edge_embed_convert.layers.common import token_mask
from edge_embed_convert.layers.rotary import RotaryNorm
from edge_embed_convert.source.checkpoint import load

RADIUS = 16
LENGTHS = (3, RADIUS, RADIUS + 1, RADIUS + 2, 40, 4 * RADIUS - 1, 4 * RADIUS, 4 * RADIUS + 5, 7 * RADIUS + 1)
"""Below, at and just above what one window sees, then by blocks, whole ones and not."""
SEVEN = {"num_hidden_layers": 7, "max_position_embeddings": 256, "rms_norm_eps": 1e-2}
"""An epsilon that shows: a scale that does not reach it changes the vectors."""
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def seven_layers(write_gemma, tmp_path_factory) -> Path:
    return write_gemma(tmp_path_factory.mktemp("seven"), **SEVEN)


@pytest.fixture(scope="module")
def source(seven_layers, source_of):
    return source_of(seven_layers)


@pytest.fixture(scope="module")
def model(seven_layers, ours):
    return ours.load(seven_layers)


def _far(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


@pytest.mark.parametrize("length", LENGTHS)
def test_equals_transformers(length, source, model, ours, random_ids) -> None:
    ids = random_ids(length)
    vector = ours.run(model, ids)
    assert abs(np.linalg.norm(vector) - 1) < TOLERANCE
    assert _far(vector, source(ids)) <= TOLERANCE


@pytest.mark.parametrize(
    ("length", "bucket"), [(3, 16), (14, 40), (17, 64), (40, 70), (63, 128), (65, 128), (100, 150)]
)
def test_padding_does_not_change_the_vector(length, bucket, source, model, ours, random_ids) -> None:
    ids = random_ids(length)
    assert _far(ours.run(model, ids, bucket), source(ids)) <= TOLERANCE


def test_the_source_really_has_a_window(seven_layers, source, source_of, tmp_path, edit, random_ids) -> None:
    """What the other tests rely on: a window of another size gives other vectors."""
    for file in seven_layers.rglob("*"):
        if file.is_file():
            target = tmp_path / file.relative_to(seven_layers)
            target.parent.mkdir(exist_ok=True, parents=True)
            target.write_bytes(file.read_bytes())
    edit(tmp_path / "config.json", sliding_window=30)
    ids = random_ids(40)
    assert _far(source_of(tmp_path)(ids), source(ids)) > 10 * TOLERANCE


@pytest.mark.parametrize(
    "config",
    [
        {"num_attention_heads": 1, "num_key_value_heads": 1},
        {"num_attention_heads": 4, "num_key_value_heads": 2},
        {"num_attention_heads": 3, "num_key_value_heads": 3, "hidden_size": 96},
        {"num_attention_heads": 6, "num_key_value_heads": 3, "hidden_size": 96},
        {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        {"rope_theta": 5000.0, "rope_local_base_freq": 300.0},
        {"query_pre_attn_scalar": 77, "hidden_size": 96, "head_dim": 16},
        {
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
            "sliding_window_pattern": None,
        },
        {"layer_types": ["full_attention"] * 4},
        {"sliding_window_pattern": 2},
        {"sliding_window_pattern": None, "_sliding_window_pattern": 2, "num_hidden_layers": 6},
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 20000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 700.0},
            },
            "rope_theta": None,
            "rope_local_base_freq": None,
        },
    ],
    ids=[
        "mha1",
        "gqa2of4",
        "mha3",
        "gqa3of6",
        "linear",
        "bases",
        "scale",
        "layer_types",
        "all_global",
        "pattern",
        "ignored_pattern",
        "new_rope",
    ],
)
def test_variants_equal_transformers(
    config, write_gemma, edit, ours, source_of, random_ids, tmp_path
) -> None:
    write_gemma(tmp_path, **{"max_position_embeddings": 256, **config})
    edit(tmp_path / "config.json")  # drops the entries that are None
    model, source = ours.load(tmp_path), source_of(tmp_path)
    for length, bucket in ((11, 16), (50, 60), (90, 100)):
        ids = random_ids(length)
        assert _far(ours.run(model, ids, bucket), source(ids)) <= TOLERANCE


def test_attention_bias(write_gemma, rewrite_tensors, ours, source_of, random_ids, tmp_path) -> None:
    write_gemma(tmp_path, attention_bias=True, max_position_embeddings=256)

    def add(tensors: dict[str, torch.Tensor]) -> None:
        generator = torch.Generator().manual_seed(1)
        for name in [n for n in tensors if ".self_attn." in n and n.endswith("_proj.weight")]:
            bias = torch.randn(tensors[name].shape[0], generator=generator) * 0.3
            tensors[name.replace(".weight", ".bias")] = bias

    rewrite_tensors(tmp_path, add)
    model, source = ours.load(tmp_path), source_of(tmp_path)
    for length in (20, 80):
        ids = random_ids(length)
        assert _far(ours.run(model, ids, 90), source(ids)) <= TOLERANCE


def test_the_window_can_be_given(write_gemma, ours, source_of, edit, random_ids, tmp_path) -> None:
    write_gemma(tmp_path, sliding_window=17)
    model = ours.load(tmp_path, sliding_window=32)
    edit(tmp_path / "config.json", sliding_window=32)
    ids = random_ids(70)
    assert _far(ours.run(model, ids), source_of(tmp_path)(ids)) <= TOLERANCE


def test_content_of_padding_cannot_matter(model, ours, random_ids) -> None:
    """Whatever the table holds for the pad id, and however long the padding is."""
    ids = random_ids(21)
    before = [ours.run(model, ids, bucket) for bucket in (32, 80)]
    row = model.encoder.table.data[0].clone()
    try:
        model.encoder.table.data[0] = torch.randn_like(row) * 7
        after = [ours.run(model, ids, bucket) for bucket in (32, 80)]
    finally:
        model.encoder.table.data[0] = row
    assert _far(np.stack(before), np.stack(after)) <= 1e-6
    assert _far(before[0], before[1]) <= TOLERANCE


@pytest.mark.parametrize("length", [16, 40, 80])
def test_only_padding_stays_finite(model, ours, length) -> None:
    assert np.isfinite(ours.run(model, [], length)).all()
    assert np.isfinite(ours.run(model, [7], length)).all()


# Each rewrite by itself, against the plain computation that it replaces.


def test_halves_are_the_separate_projections_cut(model, seven_layers) -> None:
    tensors = load_file(seven_layers / "model.safetensors")
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(3))
    for index, layer in enumerate(model.encoder.layers):
        at = f"layers.{index}.self_attn"
        heads = torch.cat([x @ tensors[f"{at}.{n}_proj.weight"].T for n in "qk"], -1).reshape(5, -1, 2, 16)
        for half, projection in enumerate((layer.qk_first, layer.qk_second)):
            torch.testing.assert_close(projection(x), heads[:, :, half].flatten(1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", ["RESIDUAL_SCALE", "BRANCH_SCALE"])
@pytest.mark.parametrize("value", [1.0, 4096.0])
def test_scales_change_nothing_but_the_range(
    scale, value, monkeypatch, seven_layers, model, ours, random_ids
) -> None:
    ids = random_ids(30)
    monkeypatch.setattr(encoder, scale, value)
    other = ours.load(seven_layers)
    assert _far(ours.run(other, ids), ours.run(model, ids)) <= TOLERANCE
    streams = [m.encoder.layers[0](_embedded(m, ids), _context(m, ids)) for m in (other, model)]
    if scale == "RESIDUAL_SCALE":
        ratio = encoder.RESIDUAL_SCALE / 512
        torch.testing.assert_close(streams[0] * ratio, streams[1], rtol=1e-4, atol=1e-6)
    else:
        torch.testing.assert_close(*streams, rtol=1e-4, atol=1e-6)


def _embedded(model: Any, ids: list[int]) -> torch.Tensor:
    return torch.nn.functional.embedding(torch.tensor([ids]), model.encoder.table)


def _context(model: Any, ids: list[int]) -> AttentionContext:
    return AttentionContext(model.encoder.config, token_mask(torch.tensor([ids]), 0))


def test_the_stored_stream_is_the_source_s_divided(model, source, random_ids) -> None:
    ids = random_ids(30)
    stream = _embedded(model, ids)
    torch.testing.assert_close(
        stream * 512, source.model.embed_tokens(torch.tensor([ids])), rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("sliding", [False, True])
def test_halves_are_normalized_and_rotated_as_whole_heads(sliding, model, source) -> None:
    from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm, apply_rotary_pos_emb

    length, dim = 200, 32
    generator = torch.Generator().manual_seed(5)
    x, weight = torch.randn(1, length, 3, dim, generator=generator), torch.rand(dim, generator=generator)
    norm = Gemma3RMSNorm(dim, eps=1e-3)
    norm.weight.data = weight
    context = AttentionContext(model.encoder.config, torch.ones(1, length))
    kind = "sliding_attention" if sliding else "full_attention"
    cos, sin = source.model.rotary_emb(x, torch.arange(length)[None], kind)
    expected, _ = apply_rotary_pos_emb(norm(x).transpose(1, 2), x.transpose(1, 2), cos, sin)
    rotary = RotaryNorm((1 + weight).expand(3, -1), 1e-3)
    got = rotary(*x.chunk(2, dim=-1), context.tables[sliding])
    torch.testing.assert_close(got, expected.transpose(1, 2), rtol=0, atol=5e-5)


@pytest.mark.parametrize(("heads", "groups"), [(2, 1), (4, 2), (3, 3)])
@pytest.mark.parametrize("length", [4 * RADIUS, 5 * RADIUS + 3, 8 * RADIUS - 1])
def test_blocks_attend_as_the_whole_matrix(heads, groups, length, seven_layers) -> None:
    """Softmax attention under an explicit mask of distance and padding, written out."""
    config = Gemma3Config.parse(json.loads((seven_layers / "config.json").read_text("utf-8")))
    generator = torch.Generator().manual_seed(length)
    real = length - 9
    mask = (torch.arange(length) < real).float()[None]
    context = AttentionContext(config, mask)
    assert context.blocks == -(-length // RADIUS)
    query, key, value = (torch.randn(1, length, n, 32, generator=generator) for n in (heads, groups, groups))
    got = context.attend_in_window(query, key, value)
    place = torch.arange(length)
    seen = ((place[:, None] - place[None]).abs() <= RADIUS) & (place < real)[None]
    full_key, full_value = (t.repeat_interleave(heads // groups, dim=2) for t in (key, value))
    scores = torch.einsum("bqhd,bkhd->bhqk", query, full_key).masked_fill(~seen, -torch.inf)
    expected = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), full_value)
    torch.testing.assert_close(got[:, :real], expected[:, :real].flatten(2), rtol=0, atol=1e-5)
    assert bool(torch.isfinite(got).all())


def test_blocks_and_matrix_give_one_vector(monkeypatch, model, ours, random_ids) -> None:
    ids = random_ids(100)
    by_blocks = ours.run(model, ids, 120)
    monkeypatch.setattr(windowed, "LOCAL_FROM", 10**6)
    assert _far(ours.run(model, ids, 120), by_blocks) <= 1e-6


# float16: the source leaves its range, the rewritten encoder does not.


def _with_outliers(tensors: dict[str, torch.Tensor]) -> None:
    """Makes the gains as training makes them: a stream in the hundreds with a few channels a hundred times
    beyond, the same ones in every layer, which the norms that read it suppress."""
    for name, tensor in tensors.items():
        if name.endswith("_proj.weight"):
            tensor.mul_(3.5)  # the narrow projections answer as strongly as 768 wide ones do
        elif name == "embed_tokens.weight":
            tensor.mul_(3.5)  # sqrt(768 / 64): the stream begins as large as the released model's
        elif name.endswith(("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")):
            tensor.add_(500.0)
            tensor[[5, 40]] = torch.tensor([15000.0, -10500.0])
        elif name.endswith(("input_layernorm.weight", "pre_feedforward_layernorm.weight")):
            tensor.add_(9.0)
            tensor[[5, 40]] = -0.99


def test_float16_overflows_the_source_and_not_ours(
    write_gemma, rewrite_tensors, ours, source_of, random_ids, tmp_path
) -> None:
    write_gemma(tmp_path, max_position_embeddings=256, num_hidden_layers=7)
    rewrite_tensors(tmp_path, _with_outliers)
    source, model = source_of(tmp_path), ours.load(tmp_path)
    texts = [random_ids(length) for length in (8, 30, 100)]
    expected = [source(ids) for ids in texts]
    largest: list[float] = []
    source.model.layers[-1].register_forward_hook(
        lambda _, __, out: largest.append(float((out[0] if isinstance(out, tuple) else out).abs().max()))
    )
    for ids, wanted in zip(texts, expected, strict=True):
        assert _far(ours.run(model, ids), wanted) <= TOLERANCE
    half = ours.load(tmp_path).half()
    for ids, wanted in zip(texts, expected, strict=True):
        source.hidden(ids)
        assert largest[-1] > 65504, "this checkpoint does not reach the range that the test is about"
        vector = ours.run(half, ids, 110).astype(np.float64)
        assert np.isfinite(vector).all()
        assert vector @ wanted / np.linalg.norm(vector) / np.linalg.norm(wanted) >= 0.999
    source.model.half()
    assert not np.isfinite(source.hidden(texts[0]).float().numpy()).all()


def test_sentence_transformers_agrees(seven_layers, model, ours) -> None:
    """The whole chain, the tokenizer and the prompt included, against the library the checkpoint is for."""
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="not installed")
    theirs = sentence_transformers.SentenceTransformer(str(seven_layers), device="cpu")
    texts = ["The ferry leaves at seven.", "a " * 90, "день 日本 👩‍🍳"]
    prompt = load(seven_layers).prompts["query"]
    expected = theirs.encode(texts, prompt_name="query", normalize_embeddings=False)
    for text, wanted in zip(texts, expected, strict=True):
        ids = theirs.tokenizer(prompt + text, truncation=True, max_length=256)["input_ids"]
        assert _far(ours.run(model, ids, 256), wanted) <= TOLERANCE


def test_bfloat16_weights_are_widened(write_gemma, ours, source_of, random_ids, tmp_path) -> None:
    write_gemma(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({n: t.bfloat16() for n, t in tensors.items()}, tmp_path / "model.safetensors", {"format": "pt"})
    ids = random_ids(20)
    assert _far(ours.run(ours.load(tmp_path), ids), source_of(tmp_path)(ids)) <= TOLERANCE
