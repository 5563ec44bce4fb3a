"""The text of an HTML page, as Markdown: its headings, lists, tables and code stay what they are."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_DROPPED_TAGS = "script style noscript template svg math iframe object canvas nav head select button textarea"
_DROPPED = frozenset(_DROPPED_TAGS.split())
_BLOCK_TAGS = """
    p div section article main header footer aside ul ol dl dt dd table blockquote figure figcaption address
    details summary form fieldset body hr
"""
_BLOCKS = frozenset(_BLOCK_TAGS.split())
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_CELLS = {"td", "th"}

_SPACE = re.compile(r"[ \t\r\n\f]+")
_DECLARED = re.compile(
    rb"""<(?:meta\b[^>]{0,200}?charset|\?xml\b[^>]{0,200}?encoding)\s*=\s*["']?([\w.:-]+)""", re.I
)
_LOOKED_AT = 4096


def declared_encoding(data: bytes) -> str | None:
    """Returns the encoding that a page names in its first bytes, None for none."""
    found = _DECLARED.search(data[:_LOOKED_AT])
    return found.group(1).decode("ascii", "replace") if found else None


def extract(page: str) -> tuple[str | None, str]:
    """Returns the title of a page and its text as Markdown.

    Scripts, styles, forms' controls and navigation are left out. The spans of chunks refer to this text.
    """
    parser = _Extractor()
    parser.feed(page)
    parser.close()
    return parser.title, parser.text


class _Extractor(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._dropped = 0  # depth within elements that are left out
        self._in_title = False
        self._pre = 0
        self._title: list[str] = []
        self._heading: list[str] | None = None
        self._first_heading: str | None = None

    @property
    def title(self) -> str | None:
        """The page's title, else its first main heading."""
        return " ".join("".join(self._title).split()) or self._first_heading

    @property
    def text(self) -> str:
        """The text, with a blank line between blocks."""
        text = re.sub(r"[ \t]+\n", "\n", "".join(self._parts))
        return re.sub(r"\n{3,}", "\n\n", text).strip().replace("\0", "")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title" and self._dropped <= 1:
            self._in_title = True
        elif tag == "body":
            self._dropped = 0  # a head that was never closed
        elif tag in _DROPPED:
            self._dropped += 1
        if self._dropped:
            return
        if tag in _HEADINGS:
            self._break()
            self._parts.append("#" * _HEADINGS[tag] + " ")
            self._heading = []
        elif tag == "br":
            self._parts.append("\n")
        elif tag == "li":
            self._line()
            self._parts.append("- ")
        elif tag == "tr":
            self._line()
        elif tag in _CELLS:
            self._parts.append("| ")
        elif tag == "pre":
            self._break()
            self._parts.append("```\n")
            self._pre += 1
        elif tag == "img":
            self.handle_data(f" {dict(attrs).get('alt') or ''} ")
        elif tag in _BLOCKS:
            self._break()

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif tag in _DROPPED:
            self._dropped = max(0, self._dropped - 1)
        elif self._dropped:
            return
        elif tag in _HEADINGS:
            if self._heading is not None:
                words = " ".join("".join(self._heading).split())
                self._parts.append(words)
                if tag == "h1" and self._first_heading is None:
                    self._first_heading = words or None
            self._heading = None
            self._break()
        elif tag == "pre" and self._pre:
            self._pre -= 1
            self._line()
            self._parts.append("```\n\n")
        elif tag in _CELLS:
            self._parts.append(" ")
        elif tag in _BLOCKS:
            self._break()

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self._title.append(data)
        elif self._dropped:
            return
        elif self._heading is not None:
            self._heading.append(data)
        elif self._pre:
            self._parts.append(data)
        else:
            text = _SPACE.sub(" ", data)
            if self._parts and self._parts[-1].endswith((" ", "\n")):
                text = text.lstrip(" ")
            if text:
                self._parts.append(text)

    def _break(self) -> None:
        if self._parts:
            self._parts.append("\n\n")

    def _line(self) -> None:
        if self._parts and not self._parts[-1].endswith("\n"):
            self._parts.append("\n")
