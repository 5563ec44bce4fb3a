"""The probe set: exact lengths where the vocabulary allows them, and an end where it does not."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from edge_embed.errors import CheckpointError
from edge_embed_convert.gate.probe_texts import SENTENCES, probe_texts


def _words(text: str) -> int:
    return 2 + len(text.split())


def test_every_bucket_is_met_exactly_and_just_passed() -> None:
    buckets = [8, 16, 64]
    probes = probe_texts(buckets, {}, _words)[len(SENTENCES) :]
    assert [_words(probe.text) for probe in probes] == [8, 4, 16, 9, 64, 17]
    assert len({probe.text for probe in probes}) == len(probes)


def test_prompts_take_turns() -> None:
    probes = probe_texts([16], {"query": "q: ", "passage": "p: ", "STS": "s: "}, _words)
    assert {probe.prompt_name for probe in probes} == {None, "query", "passage"}


def test_a_vocabulary_without_fillers_comes_to_an_end() -> None:
    """A tokenizer that sees only capitals counts no filler at all."""
    probes = probe_texts([16, 64], {}, lambda text: sum(c.isupper() for c in text))
    assert len(probes) == len(SENTENCES) + 4


@pytest.mark.parametrize(
    "count",
    [
        lambda text: 2 + len(re.findall(r"[^\sa]", text)),
        lambda text: 2 + len(re.findall(r"(?: a){1,3}|\d", text)),
    ],
    ids=["drops it", "merges rows of it"],
)
def test_another_filler_where_the_first_does_not_do(count: Callable[[str], int]) -> None:
    probes = probe_texts([16, 64], {}, count)[len(SENTENCES) :]
    assert [count(probe.text) for probe in probes] == [16, 4, 64, 17]


def test_the_nearest_below_where_no_filler_fits() -> None:
    """A tokenizer that makes two tokens of every letter never comes to an odd number."""
    probes = probe_texts([15, 63], {}, lambda text: 2 * len(text.replace(" ", "")))[len(SENTENCES) :]
    assert [2 * len(probe.text.replace(" ", "")) for probe in probes] == [14, 4, 62, 16]


@pytest.mark.parametrize("count", [lambda text: 2, lambda text: 2 + min(len(text), 10)])
def test_a_tokenizer_that_fills_no_bucket_is_refused(count: Callable[[str], int]) -> None:
    with pytest.raises(CheckpointError, match="the tokenizer cannot fill an input"):
        probe_texts([16, 64], {}, count)


def test_a_long_text_is_counted_only_a_few_times() -> None:
    counted: list[int] = []

    def count(text: str) -> int:
        counted.append(_words(text))
        return counted[-1]

    probe_texts([2048], {}, count)
    assert sum(counted) < 40 * 2048
