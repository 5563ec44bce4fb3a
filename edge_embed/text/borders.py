"""Where a text may be cut so that the ids on one side do not depend on the other."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_embed.text.tokenizers import Tokenizer

LETTERS = re.compile("[0-9A-Za-z]*")
SPACES = re.compile(" *")
SIMPLE = "0-9A-Za-zÀ-ÖØ-öø-ɏΑ-Ωα-ωА-яا-ي\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3"
BEFORE_SPACE = re.compile(r"\S(?= \S)")

MARGIN = 64
"""Characters at the end of a text that are left alone: what follows may change what they become. Longer than
any rule of a normalizer or pre-tokenizer looks ahead."""

SEARCHED = 256
"""How many places at the end of a text are tried as borders."""

CONTEXT = 16
"""Characters on each side of a place that are normalized to see that the place splits no rule."""

LONGEST = 64
"""The longest piece, in characters, with which a text without borders is handled quickly."""

SPACE = "▁"
"""How SentencePiece writes a space in its pieces."""


@functools.cache
def between_words() -> re.Pattern[str]:
    """Returns the pattern of a letter or digit at a border between words. Compiling it takes milliseconds."""
    return re.compile(f"[{SIMPLE}](?=[ \n][{SIMPLE}])")


def common_beginning(tokenizer: Tokenizer, text: str, count: int, longest: int) -> list[int]:
    """Returns ids with which all texts begin that begin with `text`, for BPE and Unigram.

    Where such a text has a token border, the ids before it are those of the text up to there: merges never
    cross a border, and the best path to a border does not depend on what follows. No token is longer than
    the longest piece, so that one of so many adjacent places is a border. What the text up to each of these
    places begins with in common is certain.

    Args:
        tokenizer: The tokenizer.
        text: The text.
        count: How many ids are needed; with fewer in common, none are returned.
        longest: The most characters of a piece that may be near the end of the text, where each character
            must stay one character, whatever is around it.
    """
    end = len(text) - CONTEXT
    if end <= longest:
        return []
    common = tokenizer.encode(text[:end])
    for place in range(end - longest + 1, end):
        if len(common) < count:
            return []
        common = common_prefix(common, tokenizer.encode(text[:place]))
    return common if len(common) >= count else []


def common_prefix(first: Sequence[int], second: Sequence[int]) -> list[int]:
    """Returns the ids that two sequences share at their start."""
    length = 0
    while length < min(len(first), len(second)) and first[length] == second[length]:
        length += 1
    return list(first[:length])


def run_length(pattern: re.Pattern[str], least: int, text: str, rest: str, place: int) -> int:
    """Returns how many characters of `rest` from `place` on continue a run of at least `least` in `text`."""
    if len(text) < least or not pattern.fullmatch(text, len(text) - least):
        return 0
    found = pattern.match(rest, place)
    return found.end() - place if found else 0
