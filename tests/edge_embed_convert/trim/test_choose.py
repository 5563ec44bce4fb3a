"""Which tokens fill the rows that the given texts leave."""

from __future__ import annotations

from collections import Counter

from edge_embed_convert.trim.choose import Chooser
from edge_embed_convert.trim.vocabularies import Vocabulary, read_vocabulary

SEEN = ["▁the", "▁cat", "水", "を", "▁кот"]
UNSEEN = ["▁dog", "שלום", "飲", "む", "▁дом", "▁2026", "ça"]


def _vocabulary(pieces: list[str]) -> Vocabulary:
    scored = [["<unk>", 0.0], *([piece, -float(i)] for i, piece in enumerate(pieces, 1))]
    return read_vocabulary({"model": {"type": "Unigram", "unk_id": 0, "vocab": scored}, "added_tokens": []})


def _chosen(pieces: list[str], counts: dict[str, dict[str, int]], most: int) -> set[str]:
    vocabulary = _vocabulary(pieces)
    used = {name: Counter({vocabulary.ids[p]: n for p, n in found.items()}) for name, found in counts.items()}
    chooser = Chooser(vocabulary, len(pieces) + 1, [])
    kept = chooser.choose(used, [], most)
    assert len(kept) <= most
    return {vocabulary.names[index] for index in kept}


COUNTS = {"en": {"▁the": 50, "▁cat": 9}, "ja": {"水": 3, "を": 9}, "ru": {"▁кот": 5}}


def test_scripts_without_capitals_are_taken_whole_and_foreign_ones_not_at_all() -> None:
    kept = _chosen([*SEEN, *UNSEEN, "last"], COUNTS, 99)
    assert {"飲", "む", "▁2026"} <= kept
    assert "שלום" not in kept
    assert "▁дом" not in kept  # its letters are not among those that the texts show
    assert "ça" not in kept


def test_capitals_of_the_letters_belong_to_a_language() -> None:
    word = "▁кот".upper()
    assert word in _chosen([*SEEN, word, "last"], COUNTS, 99)


def test_without_a_limit_nothing_is_added() -> None:
    vocabulary = _vocabulary([*SEEN, *UNSEEN, "last"])
    counts = {"ja": Counter({vocabulary.ids["を"]: 2})}
    kept = Chooser(vocabulary, len(vocabulary.ids), []).choose(counts, [], None)
    assert {vocabulary.names[i] for i in kept} == {"<unk>", "を", "last"}  # the last has the worst score


def test_a_language_with_few_texts_gets_further_tokens_first() -> None:
    pieces = ["▁tac", "▁act", "▁окт", "▁ток", "▁cat", "▁кот", "last"]
    many, few = {"▁cat": 100_000}, {"▁кот": 5}
    room = 2 + 2 + 2  # what is always kept, the tokens of the texts, and two more
    assert {"▁окт", "▁ток"} <= _chosen(pieces, {"en": many, "ru": few}, room)
    kept = _chosen(pieces, {"en": {"▁cat": 5}, "ru": {"▁кот": 100_000}}, room)
    assert {"▁tac", "▁act"} <= kept


def test_a_single_letter_comes_before_a_longer_token() -> None:
    pieces = ["水", "飲水", "飲料", "飲", "last"]
    assert "飲" in _chosen(pieces, {"ja": {"水": 9}}, 4)
