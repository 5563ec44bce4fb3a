"""Numbers, objects and lists of config.json that are none."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from edge_embed.errors import CheckpointError
from edge_embed_convert.families import FAMILIES

EPSILONS = ("layer_norm_eps", "norm_eps", "rms_norm_eps")
ENCODERS = [family for family in FAMILIES if not family.without_transformers]
BAD: list[tuple[str, Any]] = [
    *[(key, value) for key in EPSILONS for value in (None, "x", [1], -1.0)],
    ("layer_types", 5),
    ("layer_types", [["full_attention"]]),
    ("rope_theta", "abc"),
    ("rope_parameters", "x"),
    ("rope_parameters", {"full_attention": 3, "sliding_attention": 3, "rope_theta": "abc"}),
    ("rope_scaling", [1]),
    ("rope_scaling", {"rope_type": "linear", "factor": None}),
    ("sliding_window_pattern", "x"),
    ("sliding_window_pattern", -1),
    ("query_pre_attn_scalar", None),
    ("query_pre_attn_scalar", 0),
    ("per_layer_config", [1]),
    ("num_attention_heads", 7),
]


@pytest.mark.parametrize("family", ENCODERS, ids=lambda family: family.name)
@pytest.mark.parametrize(("key", "value"), BAD)
def test_each_is_accepted_or_one_error(family: Any, key: str, value: Any) -> None:
    with contextlib.suppress(CheckpointError):  # an error of another kind fails the test
        family.parse({**family.released.config, key: value}, None)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("bert", "layer_norm_eps", None),
        ("bert", "layer_norm_eps", -1.0),
        ("bert", "num_attention_heads", 7),
        ("roberta", "layer_norm_eps", "x"),
        ("modernbert", "norm_eps", [1]),
        ("nomic_bert", "rope_parameters", "x"),
        ("qwen3", "rope_scaling", [1]),
        ("embeddinggemma", "query_pre_attn_scalar", 0),
        ("embeddinggemma", "sliding_window_pattern", -1),
        ("embeddinggemma2", "per_layer_config", [1]),
    ],
)
def test_a_number_that_is_none_is_named(name: str, key: str, value: Any) -> None:
    family = next(each for each in FAMILIES if each.name == name)
    family.parse(family.released.config, None)
    with pytest.raises(CheckpointError, match=key):
        family.parse({**family.released.config, key: value}, None)


def test_a_pad_id_of_0() -> None:
    family = next(each for each in FAMILIES if each.name == "roberta")
    shape = family.parse({**family.released.config, "pad_token_id": 0}, None)
    assert shape.first_position == 1
