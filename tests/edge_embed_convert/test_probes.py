"""The probe set: exact lengths where the vocabulary allows them, and an end where it does not."""

from __future__ import annotations

from edge_embed_convert.probes import SENTENCES, probe_texts


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
