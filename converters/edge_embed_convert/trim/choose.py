"""Which tokens stay: what every text needs, then what the texts use most, with the pieces it is made of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from edge_embed.errors import InputError
from edge_embed_convert.trim.vocabularies import Vocabulary

_UNUSED = re.compile(r"[<\[]unused_?\d+[>\]]")
"""Special tokens that a tokenizer reserves and no model was trained with."""

_USUAL = 1e-4
"""A character is usual in a language if it is at least this share of its characters."""

Counts = Mapping[str, Counter[int]]
"""How often each id is needed, by language."""


class Chooser:
    """Chooses tokens of one vocabulary.

    Args:
        vocabulary: The vocabulary.
        rows: How many rows the embedding table has.
        named: Ids that the checkpoint's configuration names.
    """

    def __init__(self, vocabulary: Vocabulary, rows: int, named: Iterable[int]) -> None:
        self._vocabulary, self._rows = vocabulary, rows
        special = {
            token["id"]
            for token in vocabulary.spec.get("added_tokens") or []
            if not _UNUSED.fullmatch(token["content"])
        }
        self.always = {i for i in {*special, *vocabulary.always, *named} if i < rows}

    def choose(self, counts: Counts, fixed: Iterable[int], most: int | None) -> set[int]:
        """Returns the ids to keep.

        Args:
            counts: What the texts need.
            fixed: Ids to keep whatever the texts need, such as those of the prompts.
            most: How many rows may stay. What the texts leave of them goes to further tokens of usual
                characters, in the vocabulary's own order, which is that of their use.

        Raises:
            InputError: If the rows that every text needs are more than that.
        """
        kept = {*self.always, *self._with_needs(fixed)}
        if most is not None and len(kept) > most:
            raise InputError(
                "--max-tokens leaves no room for tokens of the texts",
                got=str(most),
                expected=f"more than {len(kept)}, the number of special tokens, bytes and tokens of prompts",
            )
        letters, usual = self._letters(counts)
        single = self._vocabulary.single
        seen = [single[token] for token in single if self._vocabulary.letters(token) in letters]
        for index in (*seen, *_by_use(counts)):
            self._add(kept, index, most)
        if most is not None:
            for token, index in sorted(self._vocabulary.ids.items(), key=lambda entry: entry[1]):
                if len(kept) >= most:
                    break
                if not _UNUSED.fullmatch(token) and usual.issuperset(self._vocabulary.letters(token)):
                    self._add(kept, index, most)
        return kept

    def _add(self, kept: set[int], index: int, most: int | None) -> None:
        if index in kept or index >= self._rows:
            return
        new = self._with_needs([index]) - kept
        if most is None or len(kept) + len(new) <= most:
            kept |= new

    def _with_needs(self, ids: Iterable[int]) -> set[int]:
        return {need for index in ids for need in self._vocabulary.needs(index) if need < self._rows}

    def _letters(self, counts: Counts) -> tuple[set[str], set[str]]:
        """Returns the characters of the tokens that texts use, and those that a language uses much."""
        names = self._vocabulary.names
        seen: set[str] = set()
        usual: set[str] = set()
        for counter in counts.values():
            letters: Counter[str] = Counter()
            for index, count in counter.items():
                for letter in self._vocabulary.letters(names[index]) if index in names else "":
                    letters[letter] += count
            seen |= letters.keys()
            least = _USUAL * sum(letters.values())
            usual |= {letter for letter, count in letters.items() if count >= least}
        return seen, usual


def _by_use(counts: Counts) -> list[int]:
    """Returns ids in the order of their use, each language counting alike."""
    shares: Counter[int] = Counter()
    for counter in counts.values():
        total = sum(counter.values()) or 1
        for index, count in counter.items():
            shares[index] += count / total  # type: ignore[assignment]
    return sorted(shares, key=lambda index: (-shares[index], index))
