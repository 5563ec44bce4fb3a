"""Which tokens stay: what every text needs, then what the texts use most, with the pieces it is made of."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Set

from edge_embed.errors import InputError
from edge_embed_convert.trim.vocabularies import Vocabulary

_UNUSED = re.compile(r"[<\[]unused_?\d+[>\]]")
"""Special tokens that a tokenizer reserves and no model was trained with."""

_USUAL = 1e-4
"""A character is usual in a language if it is at least this share of its characters."""

_SCRIPT = 0.01
"""A language is written in a script if at least this share of its characters belongs to it."""

_OWN = 4.0
"""A language uses a token of its own this many times in as many tokens as the token's place says.

Zipf's law gives 1/13 for a vocabulary of 250,000; a token of one language among fifty is used fifty times as
often in it. Words come in clusters: the chance that an expected count shows as 0 is that of a negative
binomial distribution with one half as its shape, 1 / √(1 + 2 · expected)."""

_ONLY = 4.0
"""A token that is a single letter counts for this many: without it the letter may be unknown."""

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
            most: How many rows may stay. What the texts leave of them goes to the tokens that new texts are
                most likely to use.

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
        letters = {letter for counter in counts.values() for letter in self._letters(counter)}
        single = self._vocabulary.single
        seen = [single[token] for token in single if self._vocabulary.letters(token) in letters]
        for index in (*seen, *_by_use(counts)):
            self._add(kept, index, most)
        if most is not None and len(kept) < most:
            for index in self._unseen(counts):
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

    def _unseen(self, counts: Counts) -> list[int]:
        """Returns tokens in the order of what they are likely to be of new texts' tokens.

        By Zipf's law a token's share is the inverse of its place in the vocabulary, whose order is that of
        use. For each language that the token may belong to by its characters, this is multiplied by the
        chance that the given texts do not show it although it does: near 1 for a language with few texts,
        little for a frequent token and many texts. The mean of that over the languages counts.
        """
        names = self._vocabulary.names
        ordered = [i for i in sorted(names) if i < self._rows and not _UNUSED.fullmatch(names[i])]
        letters = {index: frozenset(self._vocabulary.letters(names[index])) for index in ordered}
        everything = frozenset[str]().union(*letters.values())
        seen = frozenset[int]().union(*counts.values())
        likely: dict[int, list[float]] = {}
        for counter in counts.values():
            written = self._written(counter, everything)
            tokens = sum(counter.values())
            for place, index in enumerate(ordered, 1):
                if index not in seen and letters[index] <= written:
                    expected = _OWN * tokens / place
                    likely.setdefault(index, []).append(1 / (1 + 2 * expected) ** 0.5 / place)
        weights = {
            index: sum(found) / len(found) * (_ONLY if _is_letter(letters[index]) else 1)
            for index, found in likely.items()
        }
        return sorted(weights, key=lambda index: (-weights[index], index))

    def _written(self, counter: Counter[int], everything: Set[str]) -> set[str]:
        """Returns the characters that a language is written in.

        Of scripts with capitals, which many languages share, these are the usual ones. Any other script
        belongs to few languages or has too many characters for texts to show: it is taken whole. Digits and
        signs belong to every language.
        """
        letters = self._letters(counter)
        total = sum(letters.values())
        usual = {letter for letter, count in letters.items() if count >= _USUAL * total}
        scripts: Counter[str] = Counter()
        for letter, count in letters.items():
            scripts[_script(letter)] += count
        whole = {script for script, count in scripts.items() if script and count >= _SCRIPT * total}
        both = {form for letter in usual for form in (letter.lower(), letter.upper())}
        further = {c for c in everything if _script(c) in whole or unicodedata.category(c)[0] in "NPSZ"}
        return usual | both | further

    def _letters(self, counter: Counter[int]) -> Counter[str]:
        """Returns how often each character stands in the tokens that a language's texts use."""
        names = self._vocabulary.names
        letters: Counter[str] = Counter()
        for index, count in counter.items():
            for letter in self._vocabulary.letters(names[index]) if index in names else "":
                letters[letter] += count
        return letters


def _script(letter: str) -> str:
    """Returns the script of a letter without a capital form, by the first word of its name; else nothing."""
    if unicodedata.category(letter) not in ("Lo", "Lm", "Mn", "Mc"):
        return ""
    return unicodedata.name(letter, "").partition(" ")[0]


def _is_letter(letters: Set[str]) -> bool:
    return len(letters) == 1 and all(unicodedata.category(letter)[0] == "L" for letter in letters)


def _by_use(counts: Counts) -> list[int]:
    """Returns ids in the order of their use, each language counting alike."""
    shares: Counter[int] = Counter()
    for counter in counts.values():
        total = sum(counter.values()) or 1
        for index, count in counter.items():
            shares[index] += count / total  # type: ignore[assignment]
    return sorted(shares, key=lambda index: (-shares[index], index))
