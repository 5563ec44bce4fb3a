"""The blocks of a text: paragraphs, headings and their paths, code blocks, definitions in source code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum


class Border(IntEnum):
    """How good a place for a cut the start of a span is, from the worst to the best."""

    AFTER_HEADING = 0
    CHARACTER = 1
    WORD = 2
    LINE = 3
    SENTENCE = 4
    PARAGRAPH = 5
    HEADING = 6


@dataclass(frozen=True)
class Block:
    """A span of the text that starts at a paragraph, a heading, a code block or a definition.

    Attributes:
        start: Its first character. It ends where the next one starts.
        border: What begins here.
        level: Depth of the heading that begins here, 1 for the outermost; 0 where none begins.
        headings: The headings above and at this block, the outermost first.
        lines: Whether it is cut at line ends and not at sentences, as code is.
        bare: Whether it is a heading's own line and no more.
    """

    start: int
    border: Border
    level: int = 0
    headings: tuple[str, ...] = ()
    lines: bool = False
    bare: bool = False


_LONGEST_HEADING = 200
_LONGEST_LINE = 400
"""A longer line is read as text: no heading or definition is that long."""

_BLANK_LINES = re.compile(r"\n[ \t\r]*\n\s*|\f\s*")
_ATX = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()]*\)")
_FRONT_MATTER = re.compile(r"---\r?\n(?=(?s:.{0,8000}?)\n(?:---|\.\.\.)[ \t\r]*(?:\n|$))")
_MARKUP = re.compile(r"[*`]+|(?<!\w)_+|_+(?!\w)")
_MODIFIERS = (
    "export|default|public|private|protected|internal|static|final|abstract|async|pub|override|suspend|inline|"
    "open|sealed|data|extern|unsafe|virtual|const|partial"
)
_KEYWORDS = (
    "class|def|func|fun|fn|function|struct|interface|trait|impl|enum|module|namespace|object|protocol|record|sub|"
    "proc|macro"
)
_DEFINITION = re.compile(rf"(?:(?:{_MODIFIERS})[ \t]+)*(?:{_KEYWORDS})[ \t]+([\w.:<>$?!-]+)")
_BELONGS_TO_NEXT = ("#", "//", "/*", "*", "@", "--", "[")
"""A comment, a decorator or an attribute stands above what it belongs to."""

_GOES_ON = ("}", ")", "]", "{", "end", "else", "elif", "except", "finally", "catch", *_BELONGS_TO_NEXT)
"""A line that starts with one of these does not leave the definition above it."""


def blocks(text: str, kind: str) -> Iterator[Block]:
    """Yields the blocks of a text in order; together they are the whole text, without gaps."""
    return _READERS[kind](text)


def _paragraphs(text: str) -> Iterator[Block]:
    yield Block(0, Border.PARAGRAPH)
    for match in _BLANK_LINES.finditer(text):
        if 0 < match.end() < len(text):
            yield Block(match.end(), Border.PARAGRAPH)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yields each line with its position; of a very long line only the start."""
    at = 0
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        yield at, text[at : min(end, at + _LONGEST_LINE)].rstrip("\r")
        at = end + 1


class _Path:
    """The headings above the present place, by level."""

    def __init__(self) -> None:
        self._stack: list[tuple[int, str]] = []

    def enter(self, level: int, title: str) -> tuple[str, ...]:
        self.leave(level)
        if title:
            self._stack.append((level, title))
        return self.titles

    def leave(self, level: int) -> bool:
        """Drops the headings of this level and deeper; tells whether there was one."""
        before = len(self._stack)
        while self._stack and self._stack[-1][0] >= level:
            self._stack.pop()
        return len(self._stack) < before

    @property
    def titles(self) -> tuple[str, ...]:
        return tuple(title for _, title in self._stack)


def _markdown(text: str) -> Iterator[Block]:
    path = _Path()
    held: Block | None = None  # a paragraph that the line below it may still make a heading
    held_line = ""
    fence = ""
    matter = _FRONT_MATTER.match(text) is not None
    between = True  # the next line that is not blank begins a block
    after_heading = False

    def opening() -> Border:
        return Border.AFTER_HEADING if after_heading else Border.PARAGRAPH

    if matter:
        yield Block(0, Border.PARAGRAPH, lines=True)
    for at, line in _lines(text):
        if matter:
            matter = at == 0 or line.rstrip() not in ("---", "...")
            continue
        if fence:
            closing = _FENCE.match(line)
            if closing and closing.group(1).startswith(fence) and not line.strip().strip(fence[0]):
                fence, between = "", True
            continue
        if held is not None:
            underline = _UNDERLINE.match(line)
            if underline:
                level = 1 if underline.group(1)[0] == "=" else 2
                titles = path.enter(level, _heading_text(held_line))
                yield Block(held.start, Border.HEADING, level, titles, bare=True)
                held, between, after_heading = None, True, True
                continue
            yield held
            held = None
        if not line.strip():
            between = True
            continue
        if opened := _FENCE.match(line):
            fence = opened.group(1)
            yield Block(at, opening(), headings=path.titles, lines=True)
            after_heading = False
        elif heading := _ATX.match(line):
            level = len(heading.group(1))
            titles = path.enter(level, _heading_text(line[heading.end() :]))
            yield Block(at, Border.HEADING, level, titles, bare=True)
            between = after_heading = True
        elif between:
            held, held_line = Block(at, opening(), headings=path.titles), line
            between = after_heading = False
    if held is not None:
        yield held


def _heading_text(line: str) -> str:
    words = line.split()
    if words and not words[-1].strip("#"):  # "## Heading ##"
        words.pop()
    return _MARKUP.sub("", _LINK.sub(r"\1", " ".join(words))).strip()[:_LONGEST_HEADING]


def _code(text: str) -> Iterator[Block]:
    path = _Path()
    between = True
    above: int | None = None  # where the comments and decorators directly above this line begin
    begun = False
    for at, line in _lines(text):
        bare = line.lstrip()
        if not bare:
            between, above = True, None
            continue
        level = 1 + len(line.expandtabs(4)) - len(bare.expandtabs(4))
        if found := _DEFINITION.match(bare):
            titles = path.enter(level, found.group(1).rstrip(":<")[:_LONGEST_HEADING])
            yield Block(at if above is None else above, Border.HEADING, level, titles, lines=True)
            above, begun = None, True
        elif bare.startswith(_BELONGS_TO_NEXT):
            if above is None:
                above = at
                if between:
                    # Held back: it may open the definition that follows.
                    continue
        else:
            left = not bare.startswith(_GOES_ON) and path.leave(level)
            if between or left:
                yield Block(
                    at if above is None else above, Border.PARAGRAPH, headings=path.titles, lines=True
                )
                begun = True
            above = None
        between = False
    if not begun:
        yield Block(0, Border.PARAGRAPH, lines=True)


_READERS: dict[str, Callable[[str], Iterator[Block]]] = {
    "text": _paragraphs,
    "markdown": _markdown,
    "code": _code,
}
KINDS = tuple(_READERS)
"""The kinds of text that have rules of their own."""
