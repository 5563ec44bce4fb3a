"""Texts for distillation: single sentences, and versions of a sentence that differ in one or two words.

A teacher's vectors of such versions show a student what each word does to the meaning of a sentence. A
version need not make sense: it has no label but the teacher's vector.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from edge_embed.errors import InputError
from edge_embed.retrieval.chunks.sentences import sentence_starts
from edge_embed_train.data.sources import Row, Source, read_rows

SHORTEST = 8
"""Characters of a sentence that is kept: shorter ones are headings and remains of lists."""

SEEN = 48
"""Words that are remembered after each word; among these a replacement is drawn."""

TWICE = 0.35
"""Share of versions that are changed a second time."""

NEGATED = ("is", "are", "was", "were", "can", "could", "will", "would", "should", "has", "have", "had")

SMALL_WORDS = (
    ("a", "the", "one", "two", "three", "no", "some", "many", "another", "this", "every"),
    ("in", "on", "under", "near", "behind", "into", "from", "without", "with", "over", "beside"),
    ("and", "or", "but not"),
    ("he", "she", "they", "it", "we", "nobody", "someone"),
    ("his", "her", "their", "its", "my"),
    ("is", "was", "is not", "will be"),
    ("are", "were", "are not", "will be"),
)
"""English words that can stand in each other's place and change the meaning."""

_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*|[^\w\s]")
_TIGHT = re.compile(r" ([.,;:!?)\]}%])|([(\[{]) ")

Words = list[str]


def source_rows(source: Source) -> Iterator[Row]:
    """Streams the rows of a source, cut into sentences and with versions where the source asks for them.

    Raises:
        InputError: If the source cannot be read, or has pairs where versions are asked for.
    """
    if source.variants not in (0, 1, 2):
        raise InputError(
            f"{source.label}: no such `variants`", got=str(source.variants), expected="0, 1 or 2"
        )

    def plain() -> Iterator[Row]:
        return sentences(read_rows(source)) if source.sentences else read_rows(source)

    return with_variants(plain, source.variants) if source.variants else plain()


def sentences(rows: Iterable[Row]) -> Iterator[Row]:
    """Yields each different sentence of the rows' texts as a row of its own."""
    seen: set[int] = set()
    for row in rows:
        for text in row.texts:
            for start, end in pairwise([0, *sentence_starts(text, 0, len(text)), len(text)]):
                sentence = text[start:end].strip()
                key = hash(sentence)
                if len(sentence) >= SHORTEST and key not in seen:
                    seen.add(key)
                    yield Row(sentence)


def with_variants(rows: Callable[[], Iterable[Row]], count: int) -> Iterator[Row]:
    """Yields rows of a text and its versions, which stand in the places of a positive and a negative.

    What is drawn depends on the text and on the words that the rows hold. Texts of fewer than three words
    are left out.

    Args:
        rows: Returns the rows; they are read twice.
        count: Versions of each text, 1 or 2.

    Raises:
        InputError: If a row is a pair or a triple.
    """
    followers = seen_after(row.query for row in rows())
    for row in rows():
        if row.positive is not None:
            raise InputError(
                "only texts can have versions",
                got=f"a row of {len(row.texts)} texts: {row.query[:80]}",
                expected="`sentences = true` or `texts_only = true` beside `variants`",
            )
        words = _WORD.findall(row.query)
        if sum(word[0].isalnum() for word in words) < 3:
            continue
        draw = random.Random(row.query)  # of a text, so the same in every process
        found: list[str] = []
        for _ in range(20):
            changed = version(words, followers, draw)
            if changed not in (row.query, *found):
                found.append(changed)
            if len(found) == count:
                yield Row(row.query, *found)
                break


def seen_after(texts: Iterable[str]) -> dict[str, Words]:
    """Returns the words that were seen after each word, in lower case; a sample where there are many.

    The first word of a text follows the empty one.
    """
    followers: dict[str, Words] = defaultdict(list)
    counts: dict[str, int] = defaultdict(int)
    draw = random.Random(0)
    for text in texts:
        before = ""
        for word in map(str.lower, _WORD.findall(text)):
            counts[before] += 1
            known = followers[before]
            if len(known) < SEEN:
                known.append(word)
            elif (place := draw.randrange(counts[before])) < SEEN:
                known[place] = word
            before = word
    return dict(followers)


def version(words: Sequence[str], followers: Mapping[str, Words], draw: random.Random) -> str:
    """Returns a text with one or two changed words."""
    changed = list(words)
    for _ in range(1 + (draw.random() < TWICE)):
        change = draw.choices(list(CHANGES), list(CHANGES.values()))[0]
        changed = change(changed, followers, draw)
    return joined(changed)


def joined(words: Sequence[str]) -> str:
    """Returns words as a text, with no space before a comma and the like."""
    return _TIGHT.sub(lambda match: match.group(1) or match.group(2), " ".join(words))


def _place(words: Sequence[str], draw: random.Random) -> int:
    """Returns the place of a word, no mark."""
    return draw.choice([place for place, word in enumerate(words) if word[0].isalnum()] or [0])


def _following(words: Sequence[str], place: int, followers: Mapping[str, Words], draw: random.Random) -> str:
    """Returns a word that was seen after the word before a place, and before the word after it if one was."""
    known = followers.get(words[place - 1].lower() if place else "", [])
    able = [word for word in known if word[0].isalnum() and word != words[min(place, len(words) - 1)].lower()]
    after = words[place + 1].lower() if place + 1 < len(words) else ""
    fitting = [word for word in able if after in followers.get(word, [])]
    return draw.choice(fitting or able or [""])


def _replace(words: Words, followers: Mapping[str, Words], draw: random.Random) -> Words:
    place = _place(words, draw)
    word = _following(words, place, followers, draw)
    return [*words[:place], *([word] if word else []), *words[place + 1 :]]


def _insert(words: Words, followers: Mapping[str, Words], draw: random.Random) -> Words:
    place = _place(words, draw)
    word = _following([*words[:place], "", *words[place:]], place, followers, draw)
    return [*words[:place], *([word] if word else []), *words[place:]]


def _drop(words: Words, followers: Mapping[str, Words], draw: random.Random) -> Words:
    place = _place(words, draw)
    return [*words[:place], *words[place + 1 :]] if len(words) > 2 else words


def _swap(words: Words, followers: Mapping[str, Words], draw: random.Random) -> Words:
    one, two = _place(words, draw), _place(words, draw)
    changed = list(words)
    changed[one], changed[two] = words[two], words[one]
    return changed


def _small_word(words: Words, followers: Mapping[str, Words], draw: random.Random) -> Words:
    places = [(place, kin) for place, word in enumerate(words) for kin in SMALL_WORDS if word.lower() in kin]
    if not places:
        return _replace(words, followers, draw)
    place, kin = draw.choice(places)
    other = draw.choice([word for word in kin if word != words[place].lower()])
    return [*words[:place], other, *words[place + 1 :]]


def _negate(words: Words, followers: Mapping[str, Words], draw: random.Random) -> Words:
    for place, word in enumerate(words):
        if word.lower() == "not":
            return [*words[:place], *words[place + 1 :]]
    for place, word in enumerate(words):
        if word.lower() in NEGATED:
            return [*words[: place + 1], "not", *words[place + 1 :]]
    return _small_word(words, followers, draw)


Change = Callable[[Words, Mapping[str, Words], random.Random], Words]

CHANGES: dict[Change, float] = {
    _replace: 0.5,
    _drop: 0.12,
    _insert: 0.1,
    _swap: 0.08,
    _small_word: 0.12,
    _negate: 0.08,
}
"""How a text is changed, and how often."""
