"""Writes the Unicode tables of the Android demo from what the installed `tokenizers` does.

The library carries tables of one Unicode version, the phone's Java those of another. So the demo carries
the library's, for each character: whether BertNormalizer removes it, whether it counts as an accent, whether
BertPreTokenizer splits around it, and its lower case.

Run `python tests/golden/make_tables.py` after an update of `tokenizers`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from tokenizers import normalizers, pre_tokenizers

TARGET = Path(__file__).parents[2] / "android_demo/app/src/main/kotlin/edgeembed/core/UnicodeTables.kt"

_TEMPLATE = """package edgeembed.core

/**
 * What the `tokenizers` library knows of characters, whatever Unicode version this device has.
 * Written by tests/golden/make_tables.py; not to be edited.
 */
internal object UnicodeTables {{
    /** Whether BertNormalizer drops the character when it cleans a text. */
    fun isRemoved(point: Int): Boolean = REMOVED.holds(point)

    /** Whether BertNormalizer drops the character when it strips accents. */
    fun isAccent(point: Int): Boolean = ACCENTS.holds(point)

    /** Whether BertPreTokenizer makes a word of the character. */
    fun isPunctuation(point: Int): Boolean = PUNCTUATION.holds(point)

    /** The lower case of one character, where that is one character. */
    fun lower(point: Int): Int {{
        val run = LOWER.indexOfLast(point)
        if (run < 0 || point > LOWER.ends[run]) return point
        return if ((point - LOWER.starts[run]) % LOWER.steps[run] == 0) point + LOWER.shifts[run] else point
    }}

    /** Ranges, packed as gap and length in base 36, one after another. */
    private class Ranges(packed: String) {{
        private val numbers = packed.split(" ").map {{ it.toInt(36) }}
        private val starts = IntArray(numbers.size / 2)
        private val ends = IntArray(numbers.size / 2)

        init {{
            var at = 0
            for (i in starts.indices) {{
                starts[i] = at + numbers[2 * i]
                ends[i] = starts[i] + numbers[2 * i + 1]
                at = ends[i]
            }}
        }}

        fun holds(point: Int): Boolean {{
            val place = starts.binarySearch(point)
            return place >= 0 || (place < -1 && point <= ends[-place - 2])
        }}
    }}

    /** Runs of characters with one step between them and one distance to their lower case. */
    private class Runs(packed: String) {{
        private val numbers = packed.split(" ").map {{ it.toInt(36) }}
        val starts = IntArray(numbers.size / 4)
        val ends = IntArray(numbers.size / 4)
        val steps = IntArray(numbers.size / 4) {{ numbers[4 * it + 2] }}
        val shifts = IntArray(numbers.size / 4) {{ numbers[4 * it + 3] }}

        init {{
            var at = 0
            for (i in starts.indices) {{
                starts[i] = at + numbers[4 * i]
                ends[i] = starts[i] + numbers[4 * i + 1]
                at = ends[i]
            }}
        }}

        fun indexOfLast(point: Int): Int {{
            val place = starts.binarySearch(point)
            return if (place >= 0) place else -place - 2
        }}
    }}

    private val REMOVED = Ranges(
{removed}
    )
    private val ACCENTS = Ranges(
{accents}
    )
    private val PUNCTUATION = Ranges(
{punctuation}
    )
    private val LOWER = Runs(
{lower}
    )
}}
"""


def render() -> str:
    """Returns the Kotlin source."""
    clean, strip, lower = (_normalizer(option) for option in ("clean_text", "strip_accents", "lowercase"))
    split = pre_tokenizers.BertPreTokenizer()
    removed, accents, punctuation, lowered = [], [], [], []
    for point in range(sys.maxunicode + 1):
        if 0xD800 <= point < 0xE000 or 0x40000 <= point < 0xE0000:
            continue  # surrogates, and planes without characters
        character = chr(point)
        if not clean.normalize_str(character):
            removed.append(point)
        if strip.normalize_str("a" + character) == "a":
            accents.append(point)
        if [word for word, _ in split.pre_tokenize_str(f"a{character}b")] == ["a", character, "b"]:
            punctuation.append(point)
        small = lower.normalize_str(character)
        if small != character and len(small) == 1:
            lowered.append((point, ord(small) - point))
    return _TEMPLATE.format(
        removed=_wrap(_ranges(removed)),
        accents=_wrap(_ranges(accents)),
        punctuation=_wrap(_ranges(punctuation)),
        lower=_wrap(_runs(lowered)),
    )


def _normalizer(option: str) -> normalizers.BertNormalizer:
    options = dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), False)
    return normalizers.BertNormalizer(**(options | {option: True}))


def _ranges(points: Iterable[int]) -> list[int]:
    ranges: list[list[int]] = []
    for point in points:
        if ranges and ranges[-1][1] == point - 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    return _gaps(ranges)


def _runs(shifted: Iterable[tuple[int, int]]) -> list[int]:
    runs: list[list[int]] = []
    for point, shift in shifted:
        start, end, step, distance = runs[-1] if runs else [0, -9, 1, 0]
        if distance == shift and point - end in (1, 2) and (start == end or point - end == step):
            runs[-1] = [start, point, point - end, shift]
        else:
            runs.append([point, point, 1, shift])
    return _gaps(runs)


def _gaps(ranges: list[list[int]]) -> list[int]:
    numbers, at = [], 0
    for start, end, *rest in ranges:
        numbers += [start - at, end - start, *rest]
        at = end
    return numbers


def _base36(number: int) -> str:
    digits = ""
    rest = abs(number)
    while True:
        rest, digit = divmod(rest, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
        if not rest:
            return "-" * (number < 0) + digits


def _wrap(numbers: Iterable[int]) -> str:
    lines = [""]
    for word in map(_base36, numbers):
        if len(lines[-1]) + len(word) > 98:
            lines.append("")
        lines[-1] += word + " "
    lines[-1] = lines[-1].rstrip()
    return "\n".join(f'        "{line}"' + (" +" if line is not lines[-1] else ",") for line in lines)


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
