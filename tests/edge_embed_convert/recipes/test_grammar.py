"""The grammar of recipes, and what the gate demands of each."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_embed.errors import RecipeError
from edge_embed_convert import families
from edge_embed_convert.recipes.grammar import (
    ALGORITHMS,
    BALANCED_INT8,
    CALIBRATED,
    GROUPS,
    MIN_MAX,
    RECIPES,
    SCHEMES,
    THRESHOLDS,
    Recipe,
    Scheme,
)

TABLE_SCHEMES = [scheme for scheme in SCHEMES if scheme != "8b32"]
"""Schemes that LiteRT's lookup has a kernel for."""


CLIPPED = [f"{storage}.{name}" for name, known in ALGORITHMS.items() for storage in known.schemes]
TABLE_CLIPPED = [scheme for scheme in CLIPPED if not scheme.endswith(CALIBRATED)]


PLACES = ["0.qkv", "11.down", "3.gate_up", "dense.0"]


@st.composite
def spellings(draw: st.DrawFn) -> str:
    schemes = {
        letter: draw(
            st.sampled_from(TABLE_SCHEMES + TABLE_CLIPPED if letter == "e" else [*SCHEMES, *CLIPPED])
        )
        for letter in GROUPS
    }
    groups = "_".join(f"{letter}{schemes[letter]}" for letter in draw(st.permutations(sorted(GROUPS))))
    places = draw(st.lists(st.sampled_from(PLACES), unique=True, max_size=4))
    own = st.sampled_from([scheme for scheme in [*SCHEMES, *CLIPPED] if scheme != "8b32"])
    return "+".join([groups, *(f"{place}={draw(own)}" for place in places)])


@given(spellings())
def test_spellings_survive_the_round_trip(text: str) -> None:
    recipe = Recipe.parse(text)
    assert recipe.name == text
    assert sorted(recipe.spec.split("+")[0].split("_")) == sorted(text.split("+", maxsplit=1)[0].split("_"))
    assert recipe.spec.split("+")[1:] == text.split("+")[1:]
    again = Recipe.parse(recipe.spec)
    assert dataclasses.replace(again, name=text) == recipe


@given(spellings())
def test_the_record_says_every_group_in_full(text: str) -> None:
    recipe = Recipe.parse(text)
    record = recipe.record()
    assert list(record.groups) == [*GROUPS.values(), *(place for place, _ in recipe.overrides)]
    for letter, group in GROUPS.items():
        scheme = getattr(recipe, group)
        plain = {"bits": scheme.bits, "block": scheme.block}
        named = {} if scheme.algorithm == MIN_MAX else {"algorithm": scheme.algorithm}
        assert record.groups[group] == plain | named
        assert f"{letter}{scheme}" in record.spec.split("+")[0].split("_")


@given(st.text(max_size=30) | st.from_regex(r"\A([eafp](32|16|8|4|3|b|64)_?){1,5}\Z"))
def test_everything_else_is_refused(text: str) -> None:
    parts = text.split("_")
    right = sorted(p[:1] for p in parts) == sorted(GROUPS) and all(p[1:] in SCHEMES for p in parts)
    if text in RECIPES or right:
        return
    with pytest.raises(RecipeError):
        Recipe.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "q8",
        "INT8",
        "int8 ",
        "e4_a8_f4",
        "e4_a8_f4_p4_p4",
        "e4a8f4p4",
        "e4_a8_f4_p4_",
        "_e4_a8_f4_p4",
        "e4_a8_f4_x4",
        "e4__a8_f4_p4",
        "e4_e4_f4_p4",
    ],
)
def test_unknown_names_list_the_known_ones(text: str) -> None:
    with pytest.raises(RecipeError, match="unknown recipe") as caught:
        Recipe.parse(text)
    assert repr(text) in str(caught.value)
    assert all(name in str(caught.value) for name in RECIPES)


@pytest.mark.parametrize(
    "scheme",
    [
        "3",
        "2b32",
        "2.octav",
        "2.gptq",
        "8b64",
        "16b32",
        "0",
        "32b32",
        "4b",
        "8.octav",
        "8b32.octav",
        "4b32.mse",
        "16.gptq",
        "16.mse",
    ],
)
def test_unknown_schemes_list_the_known_ones(scheme: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.parse(f"e8_a{scheme}_f8_p8")
    message = str(caught.value)
    assert scheme in message
    assert all(known in message for known in (SCHEMES if "scheme" in message else RECIPES))


def test_an_algorithm_is_part_of_the_spelling() -> None:
    recipe = Recipe.parse("e4.octav_a8_f4b32.octav_p4.mse")
    assert recipe.embedding == Scheme(4, algorithm="octav")
    assert recipe.feed_forward == Scheme(4, 32, "octav")
    assert recipe.projection == Scheme(4, algorithm="mse")
    assert recipe.attention.algorithm == MIN_MAX
    assert recipe.spec == recipe.name
    assert recipe.thresholds == THRESHOLDS["4"]


def test_single_projections_may_differ() -> None:
    recipe = Recipe.parse("e4_a8_f4.gptq_p4+0.down=8+dense.1=32")
    assert recipe.overrides == (("0.down", Scheme(8)), ("dense.1", Scheme(32)))
    assert recipe.scheme_at("feed_forward", "0.down") == Scheme(8)
    assert recipe.scheme_at("feed_forward", "1.down") == Scheme(4, algorithm="gptq")
    assert recipe.calibrated
    assert not Recipe.parse("e4_a8_f4_p4+0.down=8").calibrated
    assert recipe.label == "layered"


@pytest.mark.parametrize(
    "text",
    ["+", "+0.down", "+0.down=", "+0.down=5", "+down=8", "+0.down=8+0.down=4", "+0.down=8b32", "+x.y=8"],
)
def test_projections_spelled_wrong(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.parse(f"e4_a8_f4_p4{text}")
    assert text.rsplit("+", maxsplit=1)[-1].rsplit("=", maxsplit=1)[-1] in str(caught.value)


def test_the_table_has_nothing_to_calibrate() -> None:
    with pytest.raises(RecipeError, match="table"):
        Recipe.parse("e4.gptq_a8_f8_p8")


def test_the_table_has_no_int8_blocks() -> None:
    with pytest.raises(RecipeError, match="table"):
        Recipe.parse("e8b32_a8b32_f8b32_p8b32")


@pytest.mark.parametrize("name", RECIPES)
def test_known_names(name: str) -> None:
    recipe = Recipe.parse(name)
    assert recipe.name == name
    assert recipe.spec == RECIPES[name]
    assert recipe.thresholds in THRESHOLDS.values()


def test_what_mixed_is() -> None:
    four, eight = Scheme(4), Scheme(8)
    assert Recipe.parse("mixed") == Recipe("mixed", four, eight, four, four)
    assert four.integer
    assert eight.integer
    assert not Scheme(16).integer
    assert str(Scheme(4, 32)) == "4b32"


def test_a_name_may_stand_for_another_spelling() -> None:
    names = {family.name: family.recipes for family in families.FAMILIES}
    assert Recipe.parse("int8", names["embeddinggemma"]) == Recipe.parse("int8")
    calibrated = Recipe.parse("int8", names["bert"])
    assert (calibrated.name, calibrated.spec) == ("int8", BALANCED_INT8)
    assert calibrated.calibrated
    assert calibrated.thresholds == Recipe.parse("int8").thresholds
    assert all(set(own) <= set(RECIPES) for own in names.values())


def test_families_default_to_known_recipes() -> None:
    defaults = {family.name: family.default_recipe for family in families.FAMILIES}
    assert defaults["embeddinggemma"] == "mixed"
    assert set(defaults.values()) <= set(RECIPES)


def test_a_finer_scheme_must_reach_more() -> None:
    order = ["2", "4", "4b32", "8", "8b32", "16", "32"]
    assert sorted(order) == sorted(THRESHOLDS) == sorted(SCHEMES)
    for coarse, fine in itertools.pairwise(THRESHOLDS[key] for key in order):
        assert fine.cosine_mean >= coarse.cosine_mean
        assert fine.cosine_min >= coarse.cosine_min
        assert fine.neighbours >= coarse.neighbours
        assert fine.norm_error_max <= coarse.norm_error_max
    for bounds in THRESHOLDS.values():
        assert 0 < bounds.cosine_min <= bounds.cosine_mean < 1
        assert set(bounds.as_dict()) == {"cosine_mean", "cosine_min", "neighbours", "norm_error_max"}


@given(spellings())
def test_the_coarsest_group_sets_the_demand(text: str) -> None:
    recipe = Recipe.parse(text)
    every = [THRESHOLDS[scheme.storage] for scheme in recipe.schemes]
    assert recipe.thresholds.cosine_min == min(bounds.cosine_min for bounds in every)


def test_recipes_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe.parse("int8").name = "other"  # type: ignore[misc]
