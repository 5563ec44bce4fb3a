"""The knapsack: what it finds is what trying everything finds, and its recipe says it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_embed_convert.auto.journal import Journal
from edge_embed_convert.auto.knapsack import UNIT, Choice, recipe_of, solve
from edge_embed_convert.recipes.grammar import Recipe, Scheme

FOUR, BLOCKS, EIGHT = Scheme(4), Scheme(4, 32), Scheme(8)


@st.composite
def problems(draw: st.DrawFn) -> dict[str, list[Choice]]:
    losses = st.integers(0, 100).map(lambda n: n / 1000)
    units = st.integers(1, 9)
    return {
        f"part{i}": [Choice(scheme, UNIT * draw(units), draw(losses)) for scheme in (FOUR, BLOCKS, EIGHT)]
        for i in range(draw(st.integers(1, 4)))
    }


@settings(max_examples=60)
@given(problems(), st.integers(0, 40))
def test_as_good_as_trying_everything(parts: dict[str, list[Choice]], budget: int) -> None:
    size = budget * UNIT
    every = [list(mixture) for mixture in itertools.product(*parts.values())]
    fitting = [mixture for mixture in every if sum(c.size for c in mixture) <= size]
    front = solve(parts)
    found = front.at(size)
    if not fitting:
        assert found is None
        return
    assert found is not None
    assert front.size(found) <= size
    least = min(sum(c.loss for c in mixture) for mixture in fitting)
    assert front.loss(found) == pytest.approx(least)
    reaching = front.reaching(least + 1e-12)
    assert reaching is not None
    assert front.loss(reaching) == pytest.approx(least)
    assert front.size(reaching) == min(
        sum(c.size for c in mixture) for mixture in every if sum(c.loss for c in mixture) <= least + 1e-9
    )


def test_nothing_reaches_the_impossible() -> None:
    front = solve({"part": [Choice(FOUR, 10, 0.5), Choice(EIGHT, 20, 0.1)]})
    assert front.reaching(0.05) is None
    assert front.at(9) is None
    assert front.at(10) == {"part": FOUR}


def test_the_recipe_of_a_mixture() -> None:
    schemes = {
        "0.qkv": ("attention", EIGHT),
        "0.output": ("attention", FOUR),
        "1.qkv": ("attention", EIGHT),
        "0.up": ("feed_forward", BLOCKS),
        "dense.0": ("projection", FOUR),
    }
    recipe = recipe_of(schemes, FOUR, "auto")
    assert recipe.spec == "e4_a8_f4b32_p4+0.output=4"
    again = Recipe.parse(recipe.spec)
    for place, (group, scheme) in schemes.items():
        assert again.scheme_at(group, place) == scheme


def test_a_journal_is_read_again(tmp_path: Path) -> None:
    first = Journal(tmp_path, {"weights": "a"})
    assert first.remember("one", lambda: {"cosine": 0.25}) == {"cosine": 0.25}
    assert first.path is not None
    with first.path.open("a") as handle:
        handle.write('{"trial": "two", "figu')  # a process was killed while it wrote
    again = Journal(tmp_path, {"weights": "a"})
    assert again.remember("one", lambda: pytest.fail("measured twice")) == {"cosine": 0.25}
    assert again.remember("two", lambda: {"cosine": 0.5}) == {"cosine": 0.5}
    assert again.reused == 1
    other = Journal(tmp_path, {"weights": "b"})
    assert other.remember("one", lambda: {"cosine": 0.75}) == {"cosine": 0.75}


def test_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for directory in (tmp_path / "file", None):
        journal = Journal(directory, {})
        assert journal.remember("one", lambda: {"x": 1.0}) == {"x": 1.0}
        assert journal.remember("one", lambda: pytest.fail("measured twice")) == {"x": 1.0}
