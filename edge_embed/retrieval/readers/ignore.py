"""Which files a `.gitignore` leaves out, by git's own rules.

The rules are few, and the base install of this project keeps to four dependencies: a library for them would
make `edge_embed index` read other files with it than without it. A test compares with git itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class _Rule:
    pattern: re.Pattern[str]
    keep: bool
    folders_only: bool


class IgnoreRules:
    """The patterns of one file, in git's language; of several that match the last one decides.

    Args:
        lines: The lines of the file.
        folder: The folder that the patterns count from, as a path with "/", "" for the root of the walk.
    """

    def __init__(self, lines: Iterable[str], folder: str = "") -> None:
        self._prefix = f"{folder}/" if folder else ""
        self._rules = [rule for line in lines if (rule := _rule(line)) is not None]

    def verdict(self, path: str, *, is_folder: bool) -> bool | None:
        """Returns whether a path is ignored: True, False where a pattern with "!" keeps it, or None.

        Args:
            path: The path with "/", counted like `folder`.
            is_folder: Whether it is a folder.
        """
        if not path.startswith(self._prefix):
            return None
        inside = path[len(self._prefix) :]
        for rule in reversed(self._rules):
            if (is_folder or not rule.folders_only) and rule.pattern.fullmatch(inside):
                return not rule.keep
        return None


def ignored(stack: Sequence[IgnoreRules], path: str, *, is_folder: bool) -> bool:
    """Returns whether the rules ignore a path; those later in the stack, of deeper folders, decide first."""
    for rules in reversed(stack):
        verdict = rules.verdict(path, is_folder=is_folder)
        if verdict is not None:
            return verdict
    return False


def _rule(line: str) -> _Rule | None:
    text = _without_trailing_spaces(line.rstrip("\r\n"))
    if not text or text.startswith("#"):
        return None
    keep = text.startswith("!")
    text = text[1:] if keep else text
    folders_only = text.endswith("/")
    text = text[:-1] if folders_only else text
    anchored = "/" in text
    text = text.removeprefix("/")
    if not text:
        return None
    try:
        pattern = re.compile(("" if anchored else "(?:.*/)?") + _translate(text), re.DOTALL)
    except re.error:  # such as a range in the wrong order: git matches nothing then
        return None
    return _Rule(pattern, keep, folders_only)


def _without_trailing_spaces(text: str) -> str:
    bare = text.rstrip(" ")
    slashes = len(bare) - len(bare.rstrip("\\"))
    return bare + " " if slashes % 2 and len(bare) < len(text) else bare


def _translate(text: str) -> str:
    parts = []
    at = 0
    while at < len(text):
        if text.startswith("**/", at) and _starts_part(text, at):
            parts.append("(?:.*/)?")
            at += 3
        elif text[at:] == "**" and _starts_part(text, at):
            parts.append(".*" if at == 0 else ".+")
            at += 2
        elif text[at] == "*":
            parts.append("[^/]*")
            while at < len(text) and text[at] == "*":
                at += 1
        elif text[at] == "?":
            parts.append("[^/]")
            at += 1
        elif text[at] == "[":
            part, at = _character_class(text, at)
            parts.append(part)
        else:
            at += text[at] == "\\" and at + 1 < len(text)
            parts.append(re.escape(text[at]))
            at += 1
    return "".join(parts)


def _starts_part(text: str, at: int) -> bool:
    return at == 0 or text[at - 1] == "/"


def _character_class(text: str, at: int) -> tuple[str, int]:
    """Returns the class that starts at "[" as a regular expression, and the place behind it."""
    first = at + 1 + (text[at + 1 : at + 2] in ("!", "^"))
    end = text.find("]", first + 1)
    if end < 0:
        return r"(?!)", len(text)  # git matches nothing
    body = re.sub(r"[\[&~|^]", r"\\\g<0>", text[first:end])
    negated = "^/" if first > at + 1 else ""
    return f"(?!/)[{negated}{body}]", end + 1
